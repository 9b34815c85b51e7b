"""Checks before long work: the data and the classes that a config names exist."""

from .check import DataCheck, check_classes, check_data
from .network import check_network

__all__ = ['DataCheck', 'check_classes', 'check_data', 'check_network']
