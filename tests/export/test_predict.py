"""tools/predict.py on a checkpoint and an exported model, from pictures and a video."""

import runpy
import sys

import cv2
import export_models
import mmcv
import numpy as np
import pytest

for _name in ('mmdet', 'mmseg'):
    pytest.importorskip(_name, reason=f'needs {_name}')

from mobileone_mm.export import ExportError  # noqa: E402
from mobileone_mm.export.predict import Predictor, predict  # noqa: E402


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    for name, path in dict(det=export_models.DETECTION, seg=export_models.SEGMENTATION).items():
        cfg = export_models.config(path, size=(96, 64))
        export_models.save(export_models.model(cfg), folder / f'{name}.pth')
        cfg.dump(folder / f'{name}.py')
    (folder / 'pictures').mkdir()
    video = cv2.VideoWriter(str(folder / 'video.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10,
                            (96, 64))
    for index, image in enumerate(export_models.images(3, 64, 96)):
        picture = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        mmcv.imwrite(picture, str(folder / 'pictures' / f'{index}.png'))
        video.write(picture)
    video.release()
    return folder


@pytest.fixture
def tool(monkeypatch, pytestconfig):
    def run(*arguments):
        script = str(pytestconfig.rootpath / 'tools' / 'predict.py')
        monkeypatch.setattr(sys, 'argv', [script, *map(str, arguments)])
        with pytest.raises(SystemExit) as status:
            runpy.run_path(script, run_name='__main__')
        return status.value.code
    return run


@pytest.mark.parametrize('task', ['det', 'seg'])
def test_a_folder_is_drawn(tool, trained, tmp_path, capsys, task):
    assert tool(trained / f'{task}.pth', trained / 'pictures', '--out', tmp_path) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ['0.png', '1.png', '2.png']
    before, after = (mmcv.imread(str(folder / '1.png'))
                     for folder in (trained / 'pictures', tmp_path))
    assert before.shape == after.shape and (before != after).any()
    assert '3 pictures: ' in capsys.readouterr().out


def test_a_video_becomes_a_video_of_as_many_frames(trained, tmp_path):
    speed = predict(Predictor(trained / 'seg.pth'), str(trained / 'video.avi'), tmp_path)
    capture = cv2.VideoCapture(str(tmp_path / 'video.mp4'))
    assert speed.count == capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert capture.get(cv2.CAP_PROP_FPS) == 10
    predict(Predictor(trained / 'seg.pth'), str(trained / 'video.avi'), tmp_path / 'two', limit=2)
    capture = cv2.VideoCapture(str(tmp_path / 'two' / 'video.mp4'))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 2


def test_a_stopped_video_leaves_no_part(trained, tmp_path, monkeypatch):
    predictor = Predictor(trained / 'seg.pth')
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
    path = export_model(trained / 'det.py', trained / 'det.pth', 'onnx',
                        trained / 'pictures' / '0.png', tmp_path).path
    picture = mmcv.imread(str(trained / 'pictures' / '1.png'))
    drawn = [predictor.draw(picture, predictor(picture)).astype(int)
             for predictor in (Predictor(path), Predictor(trained / 'det.pth'))]
    assert (abs(drawn[0] - drawn[1]) > 8).mean() < .01 < (abs(drawn[1] - picture) > 8).mean()


def test_errors_are_told_in_one_line(tool, trained, tmp_path, capsys):
    for arguments, message in [
            ((trained / 'none.pth', 'x'), 'there is no model'),
            ((trained / 'det.pth', tmp_path / 'x.png'), 'there is no image'),
            ((trained / 'det.pth', tmp_path), 'no pictures'),
            ((trained / 'det.pth', trained / 'pictures', '--config', 'x.py'), 'there is no config'),
            ((trained / 'det.pth', '77'), 'cannot be opened')]:
        assert tool(*arguments, '--out', tmp_path / 'out') == 1
        assert message in capsys.readouterr().err
    with pytest.raises(ExportError, match='there is no config'):
        Predictor(trained / 'pictures' / '0.png')
