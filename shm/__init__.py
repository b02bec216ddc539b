"""The memory that the processes share: rings, wake words, counters, placement."""
