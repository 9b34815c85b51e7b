"""Draw pictures with matplotlib, without a display."""

from pathlib import Path
from typing import Union

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .fileio import atomic_path

__all__ = ['new_figure', 'save_figure']


def new_figure(width: float, height: float) -> Figure:
    """An empty figure with this size in inches and a constrained layout."""
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Union[str, Path], dpi: int = 80) -> None:
    """Write a PNG with ``dpi`` pixels per inch, which is complete or absent."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format='png', dpi=dpi)
