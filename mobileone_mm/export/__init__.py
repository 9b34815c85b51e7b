"""Export trained checkpoints to the runtimes of desktops, servers and phones.

``FORMATS`` is the table of backends. Each backend is a module of this package with a function
``export(job: ExportJob) -> Path``, which imports the backend's library.
"""

from .errors import ExportError, MissingPackageError, ParityError
from .formats import FORMATS, Format, check_options, require

__all__ = [
    'FORMATS', 'ExportError', 'Format', 'MissingPackageError', 'ParityError', 'check_options',
    'require',
]
