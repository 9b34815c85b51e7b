"""Errors that several parts of the package raise."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or is not of the model that it is loaded into."""
