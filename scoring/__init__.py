"""What is shown of scored images."""
