"""Data sets: drawn ones, public ones, and a user's own."""
