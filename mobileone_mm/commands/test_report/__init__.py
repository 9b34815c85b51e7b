"""Draw pictures of a test, by metrics in mmengine's sense."""
