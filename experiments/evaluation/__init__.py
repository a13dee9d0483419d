"""Evaluation of trained networks on databases."""
