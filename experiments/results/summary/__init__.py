"""The summary of runs over their splits: which runs, which of them can be compared, the tables."""
