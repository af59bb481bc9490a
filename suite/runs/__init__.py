"""A run on disk: its folder, and the lease of the process that works on it."""
