"""Tables and pictures of the results of :mod:`mobileone_mm.benchmark.latency`."""

from .build import build_report

__all__ = ['build_report']
