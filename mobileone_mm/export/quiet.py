"""Silence converters that print progress and notes, also from C++."""

import logging
import os
import sys
import tempfile
import warnings
from contextlib import contextmanager
from typing import Iterator

__all__ = ['silence']


@contextmanager
def silence() -> Iterator[None]:
    """Discard everything that the process writes to stdout and stderr, from Python or C++.

    Exceptions pass, so a converter's errors are not lost.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    disabled = logging.root.manager.disable
    saved = [os.dup(number) for number in (1, 2)]
    try:
        with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
            warnings.simplefilter('ignore')
            logging.disable(logging.CRITICAL)
            for number in (1, 2):
                os.dup2(sink.fileno(), number)
            yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        logging.disable(disabled)
        for number, copy in zip((1, 2), saved):
            os.dup2(copy, number)
            os.close(copy)
