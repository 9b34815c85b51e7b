"""The branches with torch's operators."""
