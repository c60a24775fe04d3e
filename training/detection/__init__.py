"""Detection: boxes of objects in frames."""
