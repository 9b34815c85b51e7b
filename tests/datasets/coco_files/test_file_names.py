"""File names that another system or program wrote differently."""

import shutil
import unicodedata

import pytest
from coco_samples import write_sample

from mobileone_mm.datasets.coco_files import read_coco
from mobileone_mm.datasets.preflight.coco import require_images
from mobileone_mm.utils.libraries import PreflightError


def renamed(folder, on_disk, stated):
    """A file whose images lie at ``on_disk(name)`` and are called ``stated(name)``."""
    def change(content):
        for image in content['images']:
            image['file_name'] = stated(image['file_name'])
    path = write_sample(folder, change)
    for name in ('1.jpg', '2.jpg'):
        target = folder / 'img' / on_disk(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / 'img' / name, target)
    return path


@pytest.mark.parametrize('on_disk, stated', [
    ('sub/{}', 'sub\\{}'), ('a b {}', 'a%20b%20{}'), ('sub/A{}', 'SUB/a{}'),
    (unicodedata.normalize('NFC', 'é{}'), unicodedata.normalize('NFD', 'é{}')),
    (unicodedata.normalize('NFD', 'é{}'), unicodedata.normalize('NFC', 'é{}')),
    ('{}', 'C:\\Users\\me\\img\\{}'), ('{}', '/home/me/img/{}'), ('{}', 'img/{}'),
    ('sub/{}', 'https://example.org/img/sub/{}'),
])
def test_names_of_other_systems(tmp_path, on_disk, stated):
    file = read_coco(renamed(tmp_path, on_disk.format, stated.format), tmp_path / 'img')
    assert [image['file_name'] for image in file.content['images']] == [
        on_disk.format('1.jpg'), on_disk.format('2.jpg')]
    assert 'names of 2 images differ from those of the files' in file.repairs[0]
    require_images(file, tmp_path / 'img')


@pytest.mark.parametrize('on_disk, stated', [
    (str, lambda name: f'val/{name}'),  # of another folder: maybe another picture
    (str, lambda name: f'C:\\val\\{name}'),
    (str, lambda name: 'img/1.jpg'),  # both cannot be the same file
])
def test_names_with_no_or_several_meanings_stay(tmp_path, on_disk, stated):
    path = renamed(tmp_path, on_disk, stated)
    file = read_coco(path, tmp_path / 'img')
    assert not file.repairs
    with pytest.raises(PreflightError, match='2 of its 2 images are not in'):
        require_images(file, tmp_path / 'img')


def test_two_files_answer_to_one_name(tmp_path):
    path = renamed(tmp_path, 'a b {}'.format, 'A%20B%20{}'.format)
    shutil.copy(tmp_path / 'img/a b 1.jpg', tmp_path / 'img/A b 1.jpg')
    file = read_coco(path, tmp_path / 'img')
    assert [image['file_name'] for image in file.content['images']] == [
        'A%20B%201.jpg', 'a b 2.jpg']


def test_a_folder_or_a_dead_link_is_no_image(tmp_path):
    path = write_sample(tmp_path)
    (tmp_path / 'img/3.jpg').symlink_to(tmp_path / 'nothing')
    require_images(read_coco(path, tmp_path / 'img'), tmp_path / 'img')
    (tmp_path / 'img/1.jpg').unlink()
    (tmp_path / 'img/1.jpg').mkdir()
    with pytest.raises(PreflightError, match='1 of its 2 images are not in .* 1.jpg'):
        require_images(read_coco(path, tmp_path / 'img'), tmp_path / 'img')
