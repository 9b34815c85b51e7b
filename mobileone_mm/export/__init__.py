"""From a trained checkpoint to the runtimes of desktops, servers and phones.

``FORMATS`` is the table of backends. Each is one module of this package with a function
``export(job: ExportJob) -> Path``, and imports its library only there.
"""

from .errors import ExportError, MissingPackageError, ParityError
from .formats import FORMATS, Format, check_options, require

__all__ = [
    'FORMATS', 'ExportError', 'Format', 'MissingPackageError', 'ParityError', 'check_options',
    'require',
]
