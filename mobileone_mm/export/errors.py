"""What can go wrong on the way to a runtime."""


class ExportError(RuntimeError):
    """A model cannot be exported or an exported file not be used; the message says what to do."""


class MissingPackageError(ExportError):
    """A backend's library is not installed; the message names the extra that brings it."""


class UnknownHeadError(ExportError):
    """Our graphs do not know how a detector's head makes boxes."""


class ParityError(ExportError):
    """An exported model does not compute what the PyTorch model computes."""
