"""A bandit's scored points, and nothing to try: data-driven optimisation."""
