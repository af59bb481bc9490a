"""Continuous bandits with known optima."""
