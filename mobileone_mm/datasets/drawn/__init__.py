"""Drawn scenes of shapes, in the layouts of public data sets."""
