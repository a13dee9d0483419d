"""Experiments as a whole: which configs make a suite, what a split is trained on, what a checkpoint scores."""
