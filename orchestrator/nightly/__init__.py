"""What is due each night."""
