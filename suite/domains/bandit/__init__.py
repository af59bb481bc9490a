"""Bandits with known optima."""
