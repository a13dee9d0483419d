"""Commands: each parses its options, calls a package and prints."""
