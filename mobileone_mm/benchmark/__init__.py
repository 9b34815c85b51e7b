"""Measure speed, memory and correctness; printing is left to the tools."""
