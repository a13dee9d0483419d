"""What another vision project could reuse: settings, files, processes, metrics, pages."""
