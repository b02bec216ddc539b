"""What keeps the service from starting."""

from __future__ import annotations


class StartError(Exception):
    """The service cannot start; the text is one line for the operator."""
