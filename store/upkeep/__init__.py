"""What looks after a store: verification, collection, and runs whose process is gone."""
