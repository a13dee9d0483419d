"""Experiments: suites of configs, training, evaluation and results."""
