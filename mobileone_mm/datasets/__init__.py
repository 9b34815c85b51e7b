"""The embedded data set of drawn shapes; see :func:`mobileone_mm.datasets.shapes.make_shapes`."""
