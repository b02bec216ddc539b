"""The C face of storage/replay.pyx: nothing but its functions for Python."""
