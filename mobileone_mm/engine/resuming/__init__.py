"""Training that resumes at the iteration at which it stopped."""
