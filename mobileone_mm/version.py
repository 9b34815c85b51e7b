"""The package's version; setup.cfg reads it too."""

__version__ = '0.2.0'
