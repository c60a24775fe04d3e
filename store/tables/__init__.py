"""The store's Delta tables: their log, their data files, their heads and what keeps them small."""
