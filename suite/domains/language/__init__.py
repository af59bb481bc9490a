"""Language models from transformers."""
