"""Summary of runs over their splits."""
