"""Measuring, without printing."""
