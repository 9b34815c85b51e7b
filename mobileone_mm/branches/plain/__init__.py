"""The branches by torch's operators."""
