"""A training step on rows of feedback: the suite against bare torch and TRL."""
