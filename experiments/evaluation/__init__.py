"""Trained networks on databases: which images, which predictions, which metrics."""
