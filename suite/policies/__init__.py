"""Gaussian policies, divergences, and updates of the reference."""
