"""Measure time and memory of a training step: the branch engines and a plain net.

All nets take turns in one process, so a busy machine slows all of them. Times are CPU times of the
process, or wall times. Ratios are to the first net, by default a plain conv + BN + ReLU net of the
same widths, which training can hardly beat. Examples::

    python tools/benchmark/train_step.py --threads 1 2 --wall --peak-memory
    python tools/benchmark/train_step.py --arch s0 --profile  # where the time goes, by operator
"""

import argparse  # noqa: I001  (mobileone_mm before torch, as tools/train.py does)
import sys

import mobileone_mm  # noqa: F401
import torch

from mobileone_mm.benchmark.training.op_profile import format_profile, profile_step
from mobileone_mm.benchmark.training.train_step import (
    build,
    format_row,
    format_titles,
    measure,
    peak_memory,
)
from mobileone_mm.commands.main import main as run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--arch', nargs='+', default=['s0', 's1', 's2', 's3', 's4'])
    parser.add_argument('--nets', nargs='+', default=['plain', 'auto', 'textbook'],
                        help='plain, textbook, analytic, auto; timm and mmpretrain if installed')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--image-size', type=int, default=224)
    parser.add_argument('--threads', type=int, nargs='+', default=[1])
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--eval', action='store_true',
                        help='instead time the forward pass in eval mode, with unfolded branches')
    parser.add_argument('--wall', action='store_true',
                        help='wall times, for several threads on an idle machine')
    parser.add_argument('--peak-memory', action='store_true',
                        help='also measure peak resident memory, in a process per net')
    parser.add_argument('--profile', action='store_true',
                        help='instead print CPU time by operator and size of the map')
    return parser.parse_args()


def print_profiles(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    x = torch.randn(args.batch_size, 3, args.image_size, args.image_size)
    for arch in args.arch:
        for net in args.nets:
            model = build(arch, net).to(memory_format=layout)
            rows = profile_step(model, x.to(memory_format=layout), args.rounds)
            print(f'\n{arch} {net}\n\n{format_profile(rows)}', flush=True)


def main() -> None:
    args = parse_args()
    if args.profile:
        print_profiles(args)
        return
    print(format_titles(args.nets, 'wall' if args.wall else 'CPU', args.peak_memory))
    for threads in args.threads:
        for arch in args.arch:
            measured = measure(
                arch, args.nets, batch_size=args.batch_size, image_size=args.image_size,
                threads=threads, rounds=args.rounds, channels_last=args.channels_last,
                training=not args.eval, wall=args.wall)
            for net in measured if args.peak_memory else ():
                measured[net]['peak_mb'] = peak_memory(
                    arch, net, args.batch_size, args.image_size, threads, args.channels_last)
            print(format_row(arch, threads, args.nets, measured, args.peak_memory), flush=True)


if __name__ == '__main__':
    sys.exit(run(lambda _: main()))
