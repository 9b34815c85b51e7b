"""What is traced: the models as exported graphs see them."""
