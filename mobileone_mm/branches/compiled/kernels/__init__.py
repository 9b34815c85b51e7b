"""Loops over maps, compiled by numba."""
