"""Errors that several parts of the package raise."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or is not of the model that it is loaded into."""


class NonFiniteWeightsError(CheckpointError):
    """Weights are NaN or infinite, so that whatever is computed with them means nothing."""


class PreflightError(ValueError):
    """What a run needs is missing or does not fit; the message names every file concerned."""
