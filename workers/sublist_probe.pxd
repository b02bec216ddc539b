"""A subject space by itself, for tests and measurements."""
