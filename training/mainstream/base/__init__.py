"""The base model: where its stem can be shared, and how a tree of applications runs over it."""
