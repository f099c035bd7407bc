"""From frame scores to decisions."""
