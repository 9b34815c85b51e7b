"""Make tables and pictures from the results of tools/benchmark/latency.py.

    python tools/benchmark/report.py docs/latency

Writes pictures next to the results, and a Markdown page beside the folder: docs/latency.md.
"""

import argparse
import sys
from pathlib import Path

from mobileone_mm.benchmark.report import build_report
from mobileone_mm.commands.main import main as run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='folder of latency.json')
    args = parser.parse_args()
    print('\n'.join(map(str, build_report(args.folder))))


if __name__ == '__main__':
    sys.exit(run(lambda _: main(), ValueError))
