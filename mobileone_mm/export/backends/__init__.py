"""One module for each file format: ``export(job) -> Path``."""
