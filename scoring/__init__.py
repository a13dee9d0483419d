"""Scoring images with a trained network: what is read, how it is scored, what is written."""
