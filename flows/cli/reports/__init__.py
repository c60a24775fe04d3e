"""Reports that `tamis report` shows."""
