"""Make tables and pictures from the results of tools/benchmark/latency.py.

    python tools/benchmark/report.py docs/latency --page docs/latency.md

Writes a Markdown page, and its pictures next to the results.
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
    parser.add_argument('--page', type=Path, help='Markdown page (default: FOLDER/latency.md)')
    args = parser.parse_args()
    print('\n'.join(map(str, build_report(args.folder, args.page))))


if __name__ == '__main__':
    sys.exit(run(lambda _: main(), ValueError))
