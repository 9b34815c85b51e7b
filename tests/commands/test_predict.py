"""tools/predict.py on a checkpoint and an exported model, from pictures and a video."""

import re
import shutil

import cv2
import export_models
import mmcv
import numpy as np
import pytest
import torch
from PIL import Image

for _name in ('mmdet', 'mmseg'):
    pytest.importorskip(_name, reason=f'needs {_name}')

from mobileone_mm.commands import frames  # noqa: E402
from mobileone_mm.commands.frames import result_names  # noqa: E402
from mobileone_mm.commands.predict import Predictor, predict  # noqa: E402
from mobileone_mm.export import ExportError  # noqa: E402


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = export_models.write_trained(tmp_path_factory.mktemp('trained'))
    video = cv2.VideoWriter(str(folder / 'video.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10,
                            (96, 64))
    for path in sorted((folder / 'pictures').iterdir()):
        video.write(mmcv.imread(str(path)))
    video.release()
    return folder


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_a_folder_is_drawn(run_tool, trained, tmp_path, capsys, task):
    arguments = trained / f'{task}.pth', trained / 'pictures', '--out', tmp_path
    assert run_tool('predict', *arguments) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ['0.png', '1.png', '2.png']
    before, after = (mmcv.imread(str(folder / '1.png'))
                     for folder in (trained / 'pictures', tmp_path))
    assert before.shape == after.shape and (before != after).any()
    assert '3 pictures: ' in capsys.readouterr().out


def test_a_video_becomes_a_video_of_as_many_frames(trained, tmp_path):
    speed = predict(Predictor(trained / 'segmentation.pth'), str(trained / 'video.avi'), tmp_path)
    capture = cv2.VideoCapture(str(tmp_path / 'video.mp4'))
    assert speed.count == capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert capture.get(cv2.CAP_PROP_FPS) == 10
    predict(Predictor(trained / 'segmentation.pth'), str(trained / 'video.avi'), tmp_path / 'two',
            limit=2)
    capture = cv2.VideoCapture(str(tmp_path / 'two' / 'video.mp4'))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 2


def test_a_stopped_video_leaves_no_part(trained, tmp_path, monkeypatch):
    predictor = Predictor(trained / 'segmentation.pth')
    drawn = predictor.draw

    def stop(picture, sample):
        monkeypatch.setattr(predictor, 'draw', broken)
        return drawn(picture, sample)

    def broken(picture, sample):
        raise RuntimeError('broken')

    monkeypatch.setattr(predictor, 'draw', stop)
    with pytest.raises(RuntimeError, match='broken'):
        predict(predictor, str(trained / 'video.avi'), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_exported_model_draws_the_same(trained, tmp_path):
    for name in ('onnx', 'onnxruntime'):
        pytest.importorskip(name, reason=f'needs {name} (make test-deploy)')
    from mobileone_mm.export.pipeline import export_model
    path = export_model(trained / 'detection.py', trained / 'detection.pth', 'onnx',
                        trained / 'pictures' / '0.png', tmp_path).path
    picture = mmcv.imread(str(trained / 'pictures' / '1.png'))
    drawn = [predictor.draw(picture, predictor(picture)).astype(int)
             for predictor in (Predictor(path), Predictor(trained / 'detection.pth'))]
    assert (abs(drawn[0] - drawn[1]) > 8).mean() < .01 < (abs(drawn[1] - picture) > 8).mean()


def test_weights_that_are_not_numbers_draw_nothing(run_tool, trained, tmp_path, capsys):
    content = torch.load(trained / 'segmentation.pth')
    content['state_dict']['decode_head.conv_seg.bias'][1] = float('nan')
    torch.save(content, tmp_path / 'diverged.pth')
    assert run_tool('predict', tmp_path / 'diverged.pth', trained / 'pictures', '--config',
                    trained / 'segmentation.py', '--out', tmp_path / 'out') == 1
    assert 'the weights are NaN, decode_head.conv_seg.bias first' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_errors_end_in_one_line(run_tool, trained, tmp_path, capsys):
    model, pictures = trained / 'detection.pth', trained / 'pictures'
    for arguments, message in [
            ((trained / 'none.pth', 'x'), 'there is no model'),
            ((model, tmp_path / 'x.png'), 'there is no image'),
            ((model, tmp_path), 'no pictures'),
            ((model, pictures, '--config', 'x.py'), 'there is no config'),
            ((model, pictures, '--score-thr', 'nan'), '--score-thr nan: expected'),
            ((model, pictures, '--limit', '0'), '--limit 0: expected at least 1'),
            ((model, '77'), 'cannot be opened')]:
        assert run_tool('predict', *arguments, '--out', tmp_path / 'out') == 1
        assert message in capsys.readouterr().err
    with pytest.raises(ExportError, match='there is no config'):
        Predictor(trained / 'pictures' / '0.png')


def test_names_that_differ_only_in_their_suffix(trained, tmp_path):
    pictures = tmp_path / 'pictures'
    pictures.mkdir()
    names = ['a.jpg', 'a.png', 'A.webp', 'a.jpg.png', 'b.bmp']
    for i, name in enumerate(names):
        mmcv.imwrite(np.full((32, 32, 3), 40 * i, np.uint8), str(pictures / name))
    (pictures / '._a.jpg').write_bytes(b'of macOS')
    before = {path.name: path.read_bytes() for path in pictures.iterdir()}
    speed = predict(Predictor(trained / 'segmentation.pth'), str(pictures), tmp_path / 'out')
    assert speed.count == len(names) == len(list((tmp_path / 'out').iterdir()))
    speed.check()
    assert {path.name: path.read_bytes() for path in pictures.iterdir()} == before


@pytest.mark.parametrize('names, expected', [
    (['a.jpg', 'b.png'], ['a', 'b']), (['a.jpg', 'a.png'], ['a.jpg', 'a.png']),
    (['a.jpg', 'A.png'], ['a.jpg', 'A.png']),
    (['a.jpg', 'a.png', 'a.jpg.png'], ['a.jpg', 'a.png', 'a.jpg_2']),
])
def test_results_have_unique_names(names, expected):
    assert result_names(names) == expected


@pytest.mark.parametrize('source', ['pictures', 'pictures/0.png', 'video.avi'])
def test_originals_are_not_replaced(run_tool, trained, capsys, source):
    folder = trained / 'pictures' if 'pictures' in source else trained
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert run_tool('predict', trained / 'segmentation.pth', trained / source,
                    '--out', folder) == 1
    assert 'is the folder of the originals' in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize('content', [b'', b'no picture'])
def test_a_bad_picture_is_reported_at_the_end(run_tool, trained, tmp_path, capsys, content):
    shutil.copytree(trained / 'pictures', tmp_path / 'in')
    (tmp_path / 'in/0b.jpg').write_bytes(content)
    assert run_tool('predict', trained / 'segmentation.pth', tmp_path / 'in', '--out',
                    tmp_path / 'out') == 1
    printed = capsys.readouterr()
    assert printed.err.count('\n') == 1
    assert f'{tmp_path}/in/0b.jpg cannot be read as an image' in printed.err
    assert '3 pictures: ' in printed.out
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        '0.png', '1.png', '2.png']


def test_a_picture_too_large_to_draw_on(run_tool, trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(frames, 'MOST_PIXELS', 64 * 96 - 1)
    shutil.copytree(trained / 'pictures', tmp_path / 'in')
    cv2.imwrite(str(tmp_path / 'in/small.png'), np.zeros((9, 9, 3), np.uint8))
    assert run_tool('predict', trained / 'segmentation.pth', tmp_path / 'in', '--out',
                    tmp_path / 'out') == 1
    assert '2.png has 96x64 pixels, too many' in capsys.readouterr().err
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['small.png']


def test_a_picture_that_a_library_cannot_take(run_tool, trained, tmp_path, capsys):
    shutil.copytree(trained / 'pictures', tmp_path / 'in')
    cv2.imwrite(str(tmp_path / 'in/0b.png'), np.zeros((1, 1, 3), np.uint8))  # mmseg's drawing fails
    assert run_tool('predict', trained / 'segmentation.pth', tmp_path / 'in', '--out',
                    tmp_path / 'out') == 1
    printed = capsys.readouterr()
    assert 'error: 0b.png: index 1 is out of bounds' in printed.err
    assert '3 pictures: ' in printed.out


def test_a_truncated_video_reports_its_frames(trained, tmp_path, monkeypatch):
    path = tmp_path / 'cut.avi'
    content = (trained / 'video.avi').read_bytes()
    frames = [found.start() for found in re.finditer(b'00dc', content)]
    path.write_bytes(content[:frames[2]])
    speed = predict(Predictor(trained / 'segmentation.pth'), str(path), tmp_path / 'out')
    assert 0 < speed.count < 3 and (tmp_path / 'out/cut.mp4').is_file()
    with pytest.raises(ExportError, match=f'{speed.count} of 3 frames could be read'):
        speed.check()


def test_boxes_are_saved_for_other_programs(trained, tmp_path):
    pytest.importorskip('pycocotools')
    from pycocotools.coco import COCO
    predictor = Predictor(trained / 'detection.pth', score_thr=.02)
    predict(predictor, str(trained / 'pictures'), tmp_path, save=['coco', 'yolo', 'crops'])
    coco = COCO(tmp_path / 'predictions.json')
    assert [image['file_name'] for image in coco.loadImgs(coco.getImgIds())] == [
        '0.png', '1.png', '2.png']
    picture = mmcv.imread(str(trained / 'pictures/1.png'))
    found = predictor(picture).pred_instances
    found = found[found.scores >= .02]
    saved = coco.loadAnns(coco.getAnnIds(imgIds=[2]))
    assert len(saved) == len(found) > 0
    height, width = picture.shape[:2]
    lines = (tmp_path / 'labels/1.txt').read_text().splitlines()
    names = (tmp_path / 'labels/classes.txt').read_text().splitlines()
    assert names == ['RBC', 'WBC', 'Platelets']
    for box, label, score, annotation, line in zip(found.bboxes, found.labels, found.scores, saved,
                                                   lines):
        x1, y1, x2, y2 = np.clip(box.numpy(), 0, [width, height] * 2)
        x, y, w, h = annotation['bbox']
        assert (x, y, x + w, y + h) == pytest.approx((x1, y1, x2, y2), abs=1e-3)
        assert annotation['score'] == pytest.approx(float(score))
        assert coco.cats[annotation['category_id']]['name'] == names[label]
        kind, cx, cy, w, h = map(float, line.split())
        assert kind == label and (cx - w / 2) * width == pytest.approx(x1, abs=1e-2)
        assert (cy + h / 2) * height == pytest.approx(y2, abs=1e-2)
    crops = sorted((tmp_path / 'crops').glob('1_0_*.png'))
    x1, y1, x2, y2 = np.clip(found.bboxes[0].numpy(), 0, [width, height] * 2)
    expected = picture[int(y1):int(np.ceil(y2)), int(x1):int(np.ceil(x2))]
    np.testing.assert_array_equal(mmcv.imread(str(crops[0])), expected)


def test_label_masks_are_saved(trained, tmp_path):
    predictor = Predictor(trained / 'segmentation.pth')
    predict(predictor, str(trained / 'pictures'), tmp_path, save=['masks'])
    picture = mmcv.imread(str(trained / 'pictures/1.png'))
    expected = predictor(picture).pred_sem_seg.data[0].numpy()
    saved = Image.open(tmp_path / 'masks/1.png')
    np.testing.assert_array_equal(np.asarray(saved), expected)
    assert saved.getpalette()[:6] == [0, 0, 0, 220, 20, 60]
    with pytest.raises(ExportError, match='--save coco is for detection'):
        predict(predictor, str(trained / 'pictures'), tmp_path, save=['coco'])
