"""Language models and feedback that is there already, as rows of a file."""
