"""Images with masks of any origin: found, looked at, read as labels, and a config for them."""
