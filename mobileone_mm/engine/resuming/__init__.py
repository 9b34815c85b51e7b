"""Resume a training at the iteration at which it stopped."""
