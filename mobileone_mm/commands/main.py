"""How every command ends: an error is one line, without a traceback."""

import errno
import logging
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any, Callable, List, Optional, Type

from mmengine.logging import MMLogger

__all__ = ['describe', 'main']

OS_ERRORS = {
    errno.EEXIST: 'exists and is no folder',
    errno.ENOTDIR: 'a part of this path is a file, not a folder',
    errno.EISDIR: 'is a folder; expected a file',
    errno.ENOENT: 'no such file or folder',
    errno.EACCES: 'no permission',
    errno.EPERM: 'no permission',
    errno.EROFS: 'is on a read-only file system',
    errno.ENOSPC: 'no space is left on the disk',
    errno.EDQUOT: 'the disk quota is used up',
    errno.ENAMETOOLONG: 'the name is too long',
}
PACKAGE = Path(__file__).resolve().parents[1]
LONGEST = 400  # characters of a message that is not ours


def main(command: Callable[[Optional[List[str]]], Any], *errors: Type[Exception],
         debug: bool = False) -> int:
    """Run a command; an error is printed in one line. What is no mistake of the user's is marked.

    The traceback of such an error goes into the run's log file, where there is one.

    ``--debug`` also works for tools whose own parser does not know it.

    Args:
        command: Takes the arguments, or None for those of the process. What it returns is the
            exit status if it is an int.
        errors: What else, besides the package's own errors, needs no mark.
        debug: Let errors through, with their tracebacks.

    Returns:
        The exit status.
    """
    if '--debug' in sys.argv[1:]:
        debug = True
        sys.argv.remove('--debug')
    # mmengine reloads pkg_resources, so that Python forgets having warned.
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
    try:
        result = command(None)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            raise
        message = f'error: {describe(error)}'
        if not _is_expected(error, errors):
            log = _log_traceback(error)
            message += f' ({type(error).__name__}; the traceback: ' + (
                f'{log})' if log else '--debug)')
        print(message, file=sys.stderr)
        return 1
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def describe(error: BaseException) -> str:
    """What an exception says, as a message to a user."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, OSError) and error.errno in OS_ERRORS:
        place = f'{error.filename}: ' if error.filename else ''  # set on opening, not on writing
        return f'{place}{OS_ERRORS[error.errno]}'
    if 'PytorchStreamWriter failed' in text:  # torch.save's
        return 'a checkpoint could not be written: is the disk full?'
    if 'Original Traceback' in text:  # of a data loader's worker
        text = re.split(r'^(?=[\w.]+(?:Error|Exception|Warning): )', text, flags=re.MULTILINE)[-1]
        text = text.partition(': ')[2]
    # A registry puts the name of each class on the way to the fault before its message.
    text = re.sub(r'^(class `\w+` in \S+: )+', '', text)
    if type(error).__module__.startswith('mobileone_mm'):
        return text
    text = ' '.join(text.split())
    return (text[:LONGEST] + ' ...' if len(text) > LONGEST else text) or type(error).__name__


def _is_expected(error: Exception, errors: Any) -> bool:
    return isinstance(error, (OSError, SyntaxError, *errors)) or any(
        kind.__module__.startswith('mobileone_mm') for kind in type(error).__mro__) \
        or _is_refusal(error)


def _is_refusal(error: BaseException) -> bool:
    """Whether a ValueError of the package is behind it; registries re-raise them."""
    text, cause = str(error), error
    while True:
        frames = traceback.extract_tb(cause.__traceback__)
        if isinstance(cause, ValueError) and str(cause) in text and frames \
                and PACKAGE in Path(frames[-1].filename).parents:
            return True
        following = cause.__cause__ or cause.__context__
        if following is None:
            return False
        cause = following


def _log_traceback(error: Exception) -> Optional[str]:
    """Write the traceback into the log files; returns the last one's name."""
    name = None
    record = logging.LogRecord('mmengine', logging.ERROR, __file__, 0, ''.join(
        traceback.format_exception(type(error), error, error.__traceback__)), None, None)
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.emit(record)
                name = handler.baseFilename
    return name
