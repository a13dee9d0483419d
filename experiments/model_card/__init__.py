"""The model card: what a trained network is, what it was measured to do, and where it fails."""
