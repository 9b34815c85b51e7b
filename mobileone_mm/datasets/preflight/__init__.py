"""Checks before long work: the data and the classes that a config names are there."""

from .check import check_data

__all__ = ['check_data']
