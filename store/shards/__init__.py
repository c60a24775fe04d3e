"""WebDataset shards: reading, indexing and packing tar files."""
