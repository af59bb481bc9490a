"""Measurements of the suite's speed and memory."""
