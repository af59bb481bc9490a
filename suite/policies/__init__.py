"""Distributions that are trained, their divergences, and how the reference follows."""
