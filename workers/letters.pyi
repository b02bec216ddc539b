"""Messages on their way to this worker's own listeners; no face to Python."""
