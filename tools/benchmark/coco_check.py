"""Measure the strict check of annotations on a synthetic file as large as COCO's train2017.

    python tools/benchmark/coco_check.py

Makes up 118,000 images (links to one picture) with 860,000 boxes, and reads the file in two
processes: with pycocotools alone, and with the check of custom_coco, train and test. Exits with 1
if the check takes more than 15 s of CPU time, or 2 GB more memory than pycocotools at its peak.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = tuple(f'class {i}' for i in range(80))
MOST_SECONDS, MOST_GIGABYTES = 15, 2


def write_data(folder: Path, num_images: int, num_boxes: int) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (480, 640, 3), np.uint8)).save(folder / 'picture.jpg')
    (folder / 'images').mkdir()
    images = []
    for i in range(num_images):
        name = f'{i:012}.jpg'
        (folder / 'images' / name).symlink_to(folder / 'picture.jpg')
        images.append(dict(id=i, file_name=name, width=640, height=480, license=1,
                           date_captured='2013-11-14 17:02:52'))
    x, y, w, h = rng.uniform([0, 0, 2, 2], [400, 300, 240, 180], (num_boxes, 4)).round(2).T
    outline = np.stack([x, y, x + w, y, x + w, y + h, x, y + h], axis=1).round(2).tolist()
    annotations = [dict(id=i + 1, image_id=int(image), category_id=int(category) + 1, iscrowd=0,
                        bbox=box, area=box[2] * box[3], segmentation=[polygon])
                   for i, (image, category, box, polygon) in enumerate(zip(
                       rng.integers(0, num_images, num_boxes), rng.integers(0, 80, num_boxes),
                       np.stack([x, y, w, h], axis=1).tolist(), outline))]
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, start=1)]
    (folder / 'instances.json').write_text(json.dumps(
        dict(images=images, annotations=annotations, categories=categories)))


def read(how: str, folder: Path) -> None:
    """Print CPU seconds, wall seconds and peak gigabytes."""
    path = folder / 'instances.json'
    if how == 'pycocotools':
        from pycocotools.coco import COCO
        start = time.process_time(), time.perf_counter()
        COCO(str(path))
    else:
        from mobileone_mm.datasets.coco_files import count, match_categories, read_coco
        from mobileone_mm.datasets.preflight.coco import require_images
        start = time.process_time(), time.perf_counter()
        file = read_coco(path, folder / 'images')
        match_categories(file, CLASSES)
        count(file, CLASSES, dict(filter_empty_gt=True, min_size=32)).require(path)
        require_images(file, folder / 'images')
    seconds = time.process_time() - start[0], time.perf_counter() - start[1]
    print(*seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def run(how: str, folder: Path) -> list:
    output = subprocess.run([sys.executable, __file__, '--read', how, '--folder', str(folder)],
                            check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, clock, gigabytes = map(float, output.split()[-3:])
    print(f'{how:12} {seconds:6.1f} s of CPU, {clock:6.1f} s of wall time, '
          f'{gigabytes:5.2f} GB at the peak')
    return [seconds, gigabytes]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=118_000)
    parser.add_argument('--boxes', type=int, default=860_000)
    parser.add_argument('--read', choices=['pycocotools', 'check'], help=argparse.SUPPRESS)
    parser.add_argument('--folder', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        read(args.read, args.folder)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), args.images, args.boxes)
        stock = run('pycocotools', Path(folder))
        check = run('check', Path(folder))
    return int(check[0] > MOST_SECONDS or check[1] - stock[1] > MOST_GIGABYTES)


if __name__ == '__main__':
    sys.exit(main())
