"""Losses: pure functions of feedback, and their settings."""
