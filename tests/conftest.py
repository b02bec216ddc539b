"""Fixtures that every level of tests shares: brokers, raw clients, and coroutines as tests."""

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.broker import Broker
from support.rawclient import RawClient

# Protocol transcripts run against all of these; nats-server is the oracle that keeps the transcripts honest.
KINDS = ("midge-1", "midge-2", "nats-server")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--servers",
        help="run tests against these brokers only, with commas, such as nats-server,midge-2",
    )
    parser.addoption(
        "--fuzz-inputs", type=int, default=500, help="inputs of the differential fuzz (%(default)s)"
    )
    parser.addoption(
        "--differential-steps",
        type=int,
        default=400,
        help="requests of each differential run of JetStream (%(default)s)",
    )
    parser.addoption(
        "--differential-seeds",
        type=int,
        default=2,
        help="differential runs of JetStream's consumers (%(default)s)",
    )
    parser.addoption(
        "--consumer-steps", type=int, default=300, help="steps of consumers that are killed (%(default)s)"
    )
    parser.addoption("--consumer-seed", type=int, default=1, help="of the same (%(default)s)")
    parser.addoption("--soak-messages", type=int, default=200_000, help="messages of the soak (%(default)s)")
    parser.addoption("--kill-rounds", type=int, default=10, help="rounds of killing a worker (%(default)s)")
    parser.addoption(
        "--object-mib", type=int, default=96, help="size of the large object, in MiB (%(default)s)"
    )
    parser.addoption(
        "--crash-rounds", type=int, default=6, help="rounds of killing JetStream's processes (%(default)s)"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "servers(*kinds): run a test with these brokers instead of all")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("servers")
        kinds = marker.args if marker else KINDS
        chosen = metafunc.config.getoption("--servers")
        if chosen:
            kinds = tuple(kind for kind in kinds if kind in chosen.split(","))
        metafunc.parametrize("kind", kinds, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function on an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters

    async def run_and_clean_up() -> None:
        async with pyfuncitem.funcargs.get("cleanup", contextlib.AsyncExitStack()):
            await pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})

    asyncio.run(run_and_clean_up())
    return True


@pytest.fixture
def cleanup() -> contextlib.AsyncExitStack:
    """What a coroutine test puts here is closed on its event loop when it ends, passed or failed."""
    return contextlib.AsyncExitStack()


@pytest.fixture(scope="session")
def server(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker with default options, shared by all tests: each uses subjects of its own."""
    broker = Broker(kind, tmp_path_factory.mktemp(kind))
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def jetstream_server(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker with JetStream, shared by the tests of a file: each uses streams of its own."""
    broker = Broker(kind, tmp_path_factory.mktemp(kind), jetstream=True)
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def jetstream_oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A nats-server with JetStream, shared likewise, to compare with."""
    broker = Broker("nats-server", tmp_path_factory.mktemp("oracle"), jetstream=True)
    yield broker
    broker.stop()


@pytest.fixture
def start(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Broker]]:
    """A function that starts a broker with options; after the test it is stopped and checked for leaks."""
    brokers: list[Broker] = []

    def start_broker(**options: Any) -> Broker:
        brokers.append(Broker(kind, tmp_path_factory.mktemp("broker"), **options))
        return brokers[-1]

    yield start_broker
    for broker in brokers:
        broker.stop()


@pytest.fixture
def dial() -> Iterator[Callable[..., RawClient]]:
    """A function that connects to a broker; with CONNECT fields it also does the handshake."""
    clients: list[RawClient] = []

    def connect(broker: Broker, *, receive_buffer_bytes: int = 0, **connect_fields: object) -> RawClient:
        clients.append(broker.connect(receive_buffer_bytes=receive_buffer_bytes))
        return clients[-1].handshake(**connect_fields)

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def dial_raw() -> Iterator[Callable[..., RawClient]]:
    """A function that connects to a broker and sends nothing."""
    clients: list[RawClient] = []

    def connect(broker: Broker, **options: Any) -> RawClient:
        clients.append(broker.connect(**options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(server: Broker, dial: Callable[..., RawClient]) -> RawClient:
    """A connection after CONNECT with verbose and pedantic off, and headers and no_responders on."""
    return dial(server, headers=True, no_responders=True)


@pytest.fixture
def plain(server: Broker, dial_raw: Callable[..., RawClient]) -> RawClient:
    """A connection that has received INFO and sent nothing."""
    return dial_raw(server)
