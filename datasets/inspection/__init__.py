"""Looking into a database: its image files, its labels, its splits, and label files beside those of the release."""
