"""What the programs in tools/ do: ``commands/x.py`` is what ``tools/x.py`` calls."""
