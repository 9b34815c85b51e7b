"""Run one of mmdet's or mmseg's own analysis tools, even with mmcv-lite.

    python tools/analyze.py --list
    python tools/analyze.py mmdet browse_dataset CONFIG --not-show --output-dir DIR
    python tools/analyze.py mmdet browse_dataset --help
"""

import argparse
import sys

from command_line import run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--list', action='store_true', help='list the libraries and tools')
    parser.add_argument('library', nargs='?', help='mmdet or mmseg')
    parser.add_argument('name', nargs='?', help='name of the tool')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help='arguments of the tool')
    return parser


def analyze(args: argparse.Namespace) -> None:
    from mobileone_mm.commands.analyze import list_tools, run_analysis
    if args.list:
        print(list_tools())
    else:
        run_analysis(args.library, args.name, args.arguments)


if __name__ == '__main__':
    sys.exit(run(make_parser(), analyze))
