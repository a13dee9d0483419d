"""Databases of rated images: labels, splits, transforms and the one Dataset."""
