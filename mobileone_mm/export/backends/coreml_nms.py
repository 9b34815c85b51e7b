"""Apple's non-maximum suppression as the second stage of a Core ML pipeline."""

from typing import Any, Sequence

RAW_OUTPUTS = ('raw_confidence', 'raw_coordinates')
OUTPUTS = ('confidence', 'coordinates')  # the names that Vision looks for
THRESHOLDS = ('iouThreshold', 'confidenceThreshold')


def with_suppression(model: Any, test_cfg: Any, labels: Sequence[str]) -> Any:
    """Build the pipeline of a network and the suppression of its boxes.

    Suppression is per class, as in mmdet. But each box only has its best class, while mmdet reports
    every class above the threshold, and the number of boxes has no limit.

    Args:
        model: The converted network; outputs :data:`RAW_OUTPUTS`, (P, C) and (P, 4).
        test_cfg: The detector's ``test_cfg`` with score and IoU thresholds; an app may pass others
            through the inputs :data:`THRESHOLDS`.
        labels: Names of the classes.

    Returns:
        A model with outputs :data:`OUTPUTS`, (K, C) and (K, 4).
    """
    import coremltools as ct
    network = model.get_spec()
    stage = suppression_stage(network, test_cfg, labels)
    spec = ct.proto.Model_pb2.Model(specificationVersion=network.specificationVersion)
    spec.pipeline.models.add().CopyFrom(network)
    spec.pipeline.models.add().CopyFrom(stage)
    spec.pipeline.names.extend(['network', 'suppression'])
    spec.description.input.add().CopyFrom(network.description.input[0])
    spec.description.input.extend(
        feature for feature in stage.description.input if feature.name in THRESHOLDS)
    spec.description.output.extend(stage.description.output)
    return ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)


def suppression_stage(network: Any, test_cfg: Any, labels: Sequence[str]) -> Any:
    """The specification of the suppression stage that follows a network."""
    import coremltools as ct
    spec = ct.proto.Model_pb2.Model(specificationVersion=network.specificationVersion)
    for raw, name, columns in zip(network.description.output, OUTPUTS, (len(labels), 4)):
        spec.description.input.add().CopyFrom(raw)
        result = spec.description.output.add()
        result.CopyFrom(raw)
        result.name = name
        array = result.type.multiArrayType
        del array.shape[:]
        array.shapeRange.sizeRanges.add(lowerBound=0, upperBound=-1)  # any number of boxes
        array.shapeRange.sizeRanges.add(lowerBound=columns, upperBound=columns)
    defaults = (test_cfg.nms.iou_threshold, test_cfg.score_thr)
    for name, default in zip(THRESHOLDS, defaults):
        threshold = spec.description.input.add(
            name=name, shortDescription=f'overrides {name} (default {default:g})')
        threshold.type.doubleType.SetInParent()
        threshold.type.isOptional = True
    stage = spec.nonMaximumSuppression
    stage.confidenceInputFeatureName, stage.coordinatesInputFeatureName = RAW_OUTPUTS
    stage.confidenceOutputFeatureName, stage.coordinatesOutputFeatureName = OUTPUTS
    stage.iouThresholdInputFeatureName, stage.confidenceThresholdInputFeatureName = THRESHOLDS
    stage.iouThreshold, stage.confidenceThreshold = defaults
    stage.pickTop.perClass = True
    stage.stringClassLabels.vector.extend(labels)
    return spec
