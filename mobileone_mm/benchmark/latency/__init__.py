"""Measure what costs latency (paper, section 3.1), on any machine."""
