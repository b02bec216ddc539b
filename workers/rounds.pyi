"""Event rounds of the data plane; no face to Python."""
