"""The code behind the tools: ``tools/x.py`` calls ``commands/x.py``."""
