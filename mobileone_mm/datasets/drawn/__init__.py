"""Scenes of drawn shapes, in the layouts of public data sets."""
