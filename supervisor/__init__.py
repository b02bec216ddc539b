"""The process that binds ports, starts workers and hands them connections."""
