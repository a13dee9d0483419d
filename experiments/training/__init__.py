"""Training of one split: setup, steps, state, run folder."""
