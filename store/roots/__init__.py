"""Where a store lies: a folder or an object store, and how patiently it is asked."""
