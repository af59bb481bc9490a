"""The one training loop: module, callbacks, checkpoints, export."""
