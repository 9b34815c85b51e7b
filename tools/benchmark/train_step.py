"""Time and memory of a training step: textbook branches, the analytic engine, a plain net.

All nets live in one process and take turns, so that a busy machine slows all of them. Times are CPU
times of the process; ratios are to the first net given, by default the plain conv + BN + ReLU net
of the same widths, which is what training can hardly undercut. Example::

    python tools/benchmark/train_step.py --arch s0 s1 --rounds 9 --json train_step.json
"""

import argparse
import json

from mobileone_mm.benchmark.train_step import format_table, measure, peak_memory


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--arch', nargs='+', default=['s0', 's1', 's2', 's3', 's4'])
    parser.add_argument('--nets', nargs='+', default=['plain', 'auto', 'textbook'],
                        help='plain, textbook, analytic, auto; timm, mmpretrain if installed')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--image-size', type=int, default=224)
    parser.add_argument('--threads', type=int, nargs='+', default=[1])
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--peak-memory', action='store_true',
                        help='also the peak resident memory, in a process for each net')
    parser.add_argument('--json', help='write the measurements to this file')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    rows = []
    for threads in args.threads:
        for arch in args.arch:
            new = measure(arch, args.nets, args.batch_size, args.image_size, threads, args.rounds,
                          args.channels_last)
            if args.peak_memory:
                for row in new:
                    row['peak_mb'] = peak_memory(arch, row['net'], args.batch_size,
                                                 args.image_size, threads, args.channels_last)
            rows += new
            print(format_table(new, header=len(rows) == len(new)), flush=True)
    if args.json:
        with open(args.json, 'w') as f:
            json.dump(rows, f, indent=1)


if __name__ == '__main__':
    main()
