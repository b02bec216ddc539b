"""Fixtures for tests that use client libraries."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _library_leaks_stay_with_their_test() -> Iterator[None]:
    """Collect garbage, so that what a client library leaves unclosed is blamed on the test that used it.

    Tests of libraries known to leave sockets behind carry a filterwarnings mark for it.
    """
    yield
    gc.collect()
