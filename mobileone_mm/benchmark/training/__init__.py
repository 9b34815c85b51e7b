"""Measure training steps."""
