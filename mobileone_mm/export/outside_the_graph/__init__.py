"""Small references to port for steps that are left to the caller of an exported graph."""
