"""Running exported files."""
