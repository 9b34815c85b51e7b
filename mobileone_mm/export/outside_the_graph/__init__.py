"""What the caller of an exported graph has to do, as small references to port."""
