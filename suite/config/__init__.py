"""What a run can be told: typed keys, their defaults, how files and overrides fill them."""
