"""Parts of messages."""

from typing import Any

__all__ = ['shorten']


def shorten(names: Any, most: int = 5) -> str:
    """The first of some names or numbers, separated by commas."""
    texts = [str(name) for name in names]
    return ', '.join(texts[:most]) + (', ...' if len(texts) > most else '')
