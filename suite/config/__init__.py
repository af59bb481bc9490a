"""A run's configuration: typed keys, their defaults, and how files and overrides set them."""
