"""Search spaces of the paper for tests."""
