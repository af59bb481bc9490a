"""Continuous control: an actor-critic on the DeepMind Control Suite or Gymnasium, with torchrl."""
