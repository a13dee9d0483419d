"""Benchmarks of speed and memory against a peer implementation."""
