"""The config for benchmarks of a complete training, by default on drawn shapes."""

import argparse
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from mmengine.config import Config

from mobileone_mm.commands.train_test import load_config
from mobileone_mm.datasets.drawn.shapes import make_shapes

CONFIG = Path(__file__).resolve().parents[2] / 'configs/detection/ssdlite_mobileone_s0_shapes.py'


def training_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', default=str(CONFIG))
    parser.add_argument('--data-root', help='folder of the data (default: new drawn shapes for the '
                                            "default config, otherwise the config's)")
    parser.add_argument('--batch-size', type=int, help="by default the config's")
    return parser


@contextmanager
def training_config(args: argparse.Namespace) -> Iterator[Config]:
    with tempfile.TemporaryDirectory() as folder:
        root = args.data_root
        if root is None and args.config == str(CONFIG):
            root = str(make_shapes(Path(folder, 'shapes'), 'coco', num_train=200, num_val=1))
        yield load_config(argparse.Namespace(
            config=args.config, cfg_options=dict(data_root=root) if root else None,
            launcher='none', local_rank=0, work_dir=str(Path(folder, 'work_dir'))))
