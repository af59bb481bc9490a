"""What another package adds to the PMPO suite."""
