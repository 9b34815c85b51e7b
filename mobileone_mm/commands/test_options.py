"""The options of tools/test.py, as mmdet, mmseg and mmpretrain have them."""

import re
from copy import deepcopy
from importlib import import_module
from pathlib import Path

from mmengine.config import Config, ConfigDict

from ..utils.libraries import TASKS, PreflightError

__all__ = ['draw_report', 'enable_tta', 'resize_images', 'save_predictions', 'show_predictions']


def show_predictions(cfg: Config, show: bool, show_dir: str, wait_time: float) -> None:
    """Draw the predictions, in a window, to a directory, or both."""
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise PreflightError('--show and --show-dir need default_hooks.visualization in the config')
    hook.update(show=show, wait_time=wait_time)
    if cfg.default_scope == 'mmpretrain':
        hook.update(enable=True, interval=1, out_dir=show_dir)
        return
    hook.draw = True
    if cfg.default_scope == 'mmseg':
        hook.interval = 1  # by default mmseg draws every fiftieth image
        # Its hook asks for the number of training iterations, and for that mmengine would load the
        # training data.
        for name in ('train_cfg', 'train_dataloader', 'optim_wrapper', 'param_scheduler'):
            cfg[name] = None
    if show_dir and cfg.default_scope == 'mmdet':
        hook.test_out_dir = show_dir
    elif show_dir:
        cfg.visualizer.save_dir = show_dir


def save_predictions(cfg: Config, out: str) -> None:
    """Save the predictions for offline evaluation."""
    if cfg.default_scope == 'mmseg':
        cfg.test_evaluator.update(output_dir=out, keep_results=True)
        return
    if not out.endswith(('.pkl', '.pickle')):
        raise PreflightError(f'--out {out}: predictions are saved to a .pkl file')
    evaluators = cfg.test_evaluator
    if not isinstance(evaluators, list):
        evaluators = [evaluators]
    kind = 'DumpDetResults' if cfg.default_scope == 'mmdet' else 'DumpResults'
    cfg.test_evaluator = evaluators + [ConfigDict(type=kind, out_file_path=out)]


def resize_images(cfg: Config, size: str) -> None:
    """Resize test images to one size, without keeping their aspect ratio.

    Predictions are still evaluated at the original size, as cvnets evaluates segmentors with
    ``--evaluation.segmentation.resize-input-images-fixed-size``.

    Args:
        cfg: A config whose test pipeline has a Resize; it is changed.
        size: ``'WIDTHxHEIGHT'`` in pixels.

    Raises:
        PreflightError: ``size`` is malformed, or the pipeline has no Resize.
    """
    match = re.fullmatch(r'([1-9]\d*)x([1-9]\d*)', size)
    if not match:
        raise PreflightError(f'--resize {size}: expected WIDTHxHEIGHT, such as 512x512')
    steps = [step for step in cfg.test_dataloader.dataset.get('pipeline') or ()
             if step['type'] == 'Resize']
    if not steps:
        raise PreflightError('--resize needs a Resize in test_dataloader.dataset.pipeline')
    for step in steps:
        step.pop('scale_factor', None)
        step.update(scale=(int(match[1]), int(match[2])), keep_ratio=False)


def draw_report(cfg: Config, out: str, worst: int) -> None:
    """Draw a confusion matrix, the worst images and, for detection, precision over recall.

    Raises:
        PreflightError: There are no annotations to compare with, or ``out`` is a file.
    """
    if cfg.default_scope not in TASKS:
        raise PreflightError(f'--report is for detectors and segmentors, not for '
                             f'{cfg.default_scope}')
    if worst < 1:
        raise PreflightError(f'--worst {worst}: expected at least 1')
    if Path(out).exists() and not Path(out).is_dir():
        raise PreflightError(f'--report {out} is a file: expected a folder')
    evaluators = cfg.test_evaluator
    evaluators = list(evaluators) if isinstance(evaluators, list) else [evaluators]
    report = ConfigDict(type='SegmentationReport', out_dir=out, worst=worst)
    if cfg.default_scope == 'mmdet':
        coco = [each for each in evaluators if each.get('ann_file')
                and not each.get('format_only')]
        if not coco:
            raise PreflightError('--report needs a test_evaluator of type CocoMetric with ann_file')
        coco[0].classwise = True  # mmdet's table of AP by class
        report = ConfigDict(type='DetectionReport', ann_file=coco[0].ann_file, out_dir=out,
                            worst=worst)
    import_module(f'{__package__}.test_report.{TASKS[cfg.default_scope]}')  # registers it
    cfg.test_evaluator = [*evaluators, report]


def enable_tta(cfg: Config) -> None:
    """Wrap the model and the test pipeline for test-time augmentation."""
    if cfg.default_scope == 'mmdet':
        cfg.setdefault('tta_model', ConfigDict(
            type='DetTTAModel',
            tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)))
    if cfg.default_scope in ('mmdet', 'mmseg') and 'tta_pipeline' not in cfg:
        cfg.tta_pipeline = _flip_pipeline(cfg.test_dataloader.dataset.pipeline)
    missing = [name for name in ('tta_model', 'tta_pipeline') if name not in cfg]
    if missing:
        raise PreflightError(f'--tta needs {" and ".join(missing)} in the config')
    cfg.model = ConfigDict(cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def _flip_pipeline(pipeline: list) -> list:
    """Each image as it is and mirrored, as in the libraries; annotations stay as they are."""
    *images, pack = deepcopy(pipeline)
    annotations = [step for step in images if step.type == 'LoadAnnotations']
    if 'meta_keys' in pack:
        pack.meta_keys = (*pack.meta_keys, 'flip', 'flip_direction')
    flips = [dict(type='RandomFlip', prob=prob) for prob in (0., 1.)]
    return [*(step for step in images if step not in annotations),
            dict(type='TestTimeAug', transforms=[flips, *([step] for step in annotations), [pack]])]
