"""Selections as shards of their own, for readers that know nothing of tamis."""
