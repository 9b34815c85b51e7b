"""Images with masks from any tool: pair them, read the masks as labels, write a config."""
