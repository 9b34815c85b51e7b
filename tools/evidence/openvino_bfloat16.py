"""Run one OpenVINO file in float32 and in bfloat16, which OpenVINO prefers on CPUs that have it.

    python tools/evidence/openvino_bfloat16.py CONFIG CHECKPOINT DIR/NAME.xml --images DIR
"""

import argparse
from functools import partial
from statistics import median

from mobileone_mm.export.interface import Interface
from mobileone_mm.export.pipeline import verify_parity
from mobileone_mm.export.running.exported_model import ExportedModel
from mobileone_mm.export.running.runtimes import OpenVINO
from mobileone_mm.export.samples import Samples, list_pictures
from mobileone_mm.export.trained import load_trained
from mobileone_mm.utils.timing import processor_ms


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('model', help='an .xml file exported by tools/deploy.py')
    parser.add_argument('--images', required=True, help='directory of pictures')
    parser.add_argument('--limit', type=int, help='maximum number of pictures')
    parser.add_argument('--rounds', type=int, default=20, help='rounds of timing')
    parser.add_argument('--cfg-options', nargs='+')
    return parser.parse_args()


def main() -> None:
    import openvino
    args = parse_args()
    print('by default, OpenVINO computes in',
          openvino.Core().get_property('CPU', 'INFERENCE_PRECISION_HINT').to_string())
    cfg, model = load_trained(args.config, args.checkpoint, args.cfg_options)
    samples, pictures = Samples(cfg), list_pictures(args.images)[:args.limit]
    interface = Interface.read(args.model)
    files = {precision: ExportedModel(OpenVINO(args.model, 1, precision), interface,
                                      model.data_preprocessor) for precision in ('f32', 'bf16')}
    image = samples(pictures[0])['inputs'][0][None].float()
    times = processor_ms({precision: partial(exported.run, image)
                          for precision, exported in files.items()}, args.rounds)
    for precision, exported in files.items():
        parity = verify_parity(model, exported, samples, pictures)
        parity.worst.pop('maps')  # computed by a separate graph, in float32
        print(f'{precision}: {median(times[precision]):.1f} ms; {parity}')


if __name__ == '__main__':
    main()
