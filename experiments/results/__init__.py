"""Results of finished splits: read, checked, summarised and shown."""
