"""The mathematics of the branches: pure functions, torch only."""
