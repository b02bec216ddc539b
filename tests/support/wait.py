"""The only place where tests wait: for a condition, with a deadline that names what was awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Result = TypeVar("Result")

POLL_SECONDS = 0.005


def wait_until(condition: Callable[[], Result], what: str, timeout_s: float = 10) -> Result:
    """Call the condition until it returns something true, and return that.

    Args:
        what: the state awaited, for the failure's text.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s for {what}; last seen: {result!r}")
        time.sleep(POLL_SECONDS)


async def wait_until_async(
    condition: Callable[[], Result | Awaitable[Result]], what: str, timeout_s: float = 10
) -> Result:
    """Do the same without blocking the event loop; the condition may be a coroutine function."""
    deadline = time.monotonic() + timeout_s
    while True:
        outcome = condition()
        result = await outcome if isinstance(outcome, Awaitable) else outcome
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s for {what}; last seen: {result!r}")
        await asyncio.sleep(POLL_SECONDS)
