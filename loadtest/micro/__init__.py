"""Measurements of one module each."""
