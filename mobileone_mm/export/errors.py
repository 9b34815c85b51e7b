"""Errors of exporting."""


class ExportError(RuntimeError):
    """A model cannot be exported, or an exported file cannot be used."""


class MissingPackageError(ExportError):
    """A backend's library is not installed; the message names the extra to install."""


class UnknownHeadError(ExportError):
    """Our graphs do not support a detector's head."""


class ParityError(ExportError):
    """An exported model and the PyTorch model give different results."""
