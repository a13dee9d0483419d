"""What finished splits left on disk, read, checked, summarised and shown."""
