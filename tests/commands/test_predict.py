"""tools/predict.py on a checkpoint and an exported model, from pictures and a video."""

import cv2
import export_models
import mmcv
import pytest
import torch

for _name in ('mmdet', 'mmseg'):
    pytest.importorskip(_name, reason=f'needs {_name}')

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


def test_errors_are_told_in_one_line(run_tool, trained, tmp_path, capsys):
    model, pictures = trained / 'detection.pth', trained / 'pictures'
    for arguments, message in [
            ((trained / 'none.pth', 'x'), 'there is no model'),
            ((model, tmp_path / 'x.png'), 'there is no image'),
            ((model, tmp_path), 'no pictures'),
            ((model, pictures, '--config', 'x.py'), 'there is no config'),
            ((model, '77'), 'cannot be opened')]:
        assert run_tool('predict', *arguments, '--out', tmp_path / 'out') == 1
        assert message in capsys.readouterr().err
    with pytest.raises(ExportError, match='there is no config'):
        Predictor(trained / 'pictures' / '0.png')
