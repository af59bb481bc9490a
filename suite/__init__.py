"""The suite: preference optimisation from positive, negative or mixed feedback."""
