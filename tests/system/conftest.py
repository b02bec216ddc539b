"""Fixtures for tests that use client libraries."""

import contextlib
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import nats
import pytest
from nats.js import JetStreamContext
from support.broker import Broker
from support.jetstream_backup import connected
from support.jetstream_client import JetStreamClient

JETSTREAM_TIMEOUT_S = 20


@pytest.fixture(autouse=True)
def _library_leaks_stay_with_their_test() -> Iterator[None]:
    """Collect garbage, so that what a client library leaves unclosed is blamed on the test that used it.

    Tests of libraries known to leave sockets behind carry a filterwarnings mark for it.
    """
    yield
    gc.collect()


@pytest.fixture
def ask() -> Iterator[Callable[[Broker], JetStreamClient]]:
    """A function that connects to a broker's JetStream."""
    connections = []

    def connect(broker: Broker) -> JetStreamClient:
        connections.append(connected(broker))
        return JetStreamClient(connections[-1])

    yield connect
    for connection in connections:
        connection.close()


@pytest.fixture
def connect_contexts(
    cleanup: contextlib.AsyncExitStack,
) -> Callable[..., Awaitable[list[JetStreamContext]]]:
    """A function that connects so many clients, spread over the workers, and returns their contexts."""

    async def connect(broker: Broker, count: int, **options: Any) -> list[JetStreamContext]:
        connections = []
        for _ in range(count):
            connections.append(await nats.connect(broker.url, **options))
            cleanup.push_async_callback(connections[-1].close)
        return [connection.jetstream(timeout=JETSTREAM_TIMEOUT_S) for connection in connections]

    return connect
