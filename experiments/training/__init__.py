"""One split of a run: what it needs, its steps, its state, its folder."""
