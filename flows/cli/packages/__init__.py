"""`tamis package`: candidates of applications that share a base model."""
