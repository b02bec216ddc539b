"""Who is interested in which subjects; no face to Python, see sublist_probe.pyx."""
