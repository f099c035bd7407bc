"""Training loops and loss terms."""
