"""Inspection of a database: image files, labels, splits, and comparison with the label files of the release."""
