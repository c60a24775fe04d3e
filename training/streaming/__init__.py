"""Streaming the chosen samples out of shards, in a shuffled order that any number of ranks and workers shares."""
