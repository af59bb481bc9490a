"""What the project claims about speed, measured in one process run."""
