"""Quantize to int8: calibration, equalization and the backends' own quantizers."""
