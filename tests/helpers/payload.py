"""What an attacker would put into a pickle."""

import os
from pathlib import Path


class Payload:
    """Makes a folder when it is unpickled by something that runs what it finds."""

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
