"""One module per file format, each with a function ``export(job) -> Path``."""
