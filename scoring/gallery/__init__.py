"""The page of scored images."""
