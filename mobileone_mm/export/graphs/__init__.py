"""The graphs that exporters trace."""
