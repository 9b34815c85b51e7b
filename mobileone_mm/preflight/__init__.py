"""Checks before long work: the library, the data and the classes that a config names are there."""

from .check import PreflightError, check_data, check_library

__all__ = ['PreflightError', 'check_data', 'check_library']
