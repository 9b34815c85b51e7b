"""Run a command so that an error ends in one line, without a traceback."""

import errno
import io
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
    errno.EEXIST: 'exists and is not a folder',
    errno.ENOTDIR: 'a part of this path is a file, not a folder',
    errno.EISDIR: 'is a folder; expected a file',
    errno.ENOENT: 'no such file or folder',
    errno.EACCES: 'no permission',
    errno.EPERM: 'no permission',
    errno.EROFS: 'is on a read-only file system',
    errno.ENOSPC: 'no space is left on the disk',
    errno.EFBIG: 'a file would be larger than the system allows',
    errno.EDQUOT: 'the disk quota is used up',
    errno.ENAMETOOLONG: 'the name is too long',
}
PACKAGE = Path(__file__).resolve().parents[1]
LONGEST = 400  # maximum length of messages that are not ours


def main(command: Callable[[Optional[List[str]]], Any], *errors: Type[Exception],
         debug: bool = False) -> int:
    """Run a command and print an error as one line, marked unless it is the user's mistake.

    The traceback of a marked error goes to the run's log file, if there is one.

    ``--debug`` works even for tools whose parser does not have it.

    Args:
        command: A function of the arguments, or of None for those of the process. If it returns
            an int, that is the exit status.
        errors: Errors that need no mark, besides the package's own.
        debug: Whether to let errors through with their tracebacks.

    Returns:
        The exit status.
    """
    if '--debug' in sys.argv[1:]:
        debug = True
        sys.argv.remove('--debug')
    for stream in (sys.stdout, sys.stderr):  # names of classes or files may have any character
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')
    # mmengine reloads pkg_resources, so Python would warn again each time.
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
            message += f' ({type(error).__name__}; traceback: ' + (
                f'{log})' if log else '--debug)')
        print(message, file=sys.stderr)
        return 1
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def describe(error: BaseException) -> str:
    """An exception as a message for the user."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, OSError) and error.errno in OS_ERRORS:
        place = f'{error.filename}: ' if error.filename else ''  # set on opening, not on writing
        return f'{place}{OS_ERRORS[error.errno]}'
    if 'PytorchStreamWriter failed' in text or 'unexpected pos' in text:  # torch.save's
        return 'a checkpoint could not be written: is the disk full?'
    if 'Original Traceback' in text:  # of a data loader's worker
        text = re.split(r'^(?=[\w.]+(?:Error|Exception|Warning): )', text, flags=re.MULTILINE)[-1]
        text = text.partition(': ')[2]
    # Registries prefix the message with the names of the classes they were building.
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
    """Whether the error comes from a ValueError of the package; registries re-raise those."""
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
    """Write the traceback to the log files; returns the name of the last one."""
    name = None
    record = logging.LogRecord('mmengine', logging.ERROR, __file__, 0, ''.join(
        traceback.format_exception(type(error), error, error.__traceback__)), None, None)
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.emit(record)
                name = handler.baseFilename
    return name
