"""Errors that several parts of the package raise."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or does not fit the model."""


class NonFiniteWeightsError(CheckpointError):
    """Weights are NaN or infinite, so results would mean nothing."""


class PreflightError(ValueError):
    """Something that a run needs is missing or does not fit; the message names every file."""
