"""Tables and pictures of what :mod:`mobileone_mm.benchmark.latency` measured."""

from .build import build_report

__all__ = ['build_report']
