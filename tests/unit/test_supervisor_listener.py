"""The listener binds as nats-server does and spreads connections evenly, never losing one."""

import asyncio
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.wait import wait_until_async

from supervisor import listener as listener_module
from supervisor.errors import StartError
from supervisor.link import Accepted
from supervisor.listener import Listener, bind
from workers.log import Log


class FakeTarget:
    """A worker that keeps what it gets."""

    def __init__(self, load: int = 0) -> None:
        self.got: list[Accepted] = []
        self.unsent = 0
        self.asked = 0
        self._load = load

    @property
    def unsent_connections(self) -> int:
        self.asked += 1
        return self.unsent

    @property
    def load(self) -> int:
        return self._load + len(self.got)

    def hand_over(self, connections: Sequence[Accepted]) -> None:
        self.got += connections

    def close(self) -> None:
        for connection in self.got:
            os.close(connection.descriptor)


class Bench:
    """A listener on a free port with fake workers, and clients that connect to it."""

    def __init__(self, log_path: Path) -> None:
        self.targets: list[FakeTarget] = []
        self.clients: list[socket.socket] = []
        self.log_path = log_path
        self.log = Log(file=str(log_path))
        self.socket = bind("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        self.listener: Listener | None = None

    def attach(self, *loads: int, max_connections: int = 0) -> Listener:
        self.targets = [FakeTarget(load) for load in loads]
        self.listener = Listener(self.socket, lambda: self.targets, self.log, max_connections)
        self.listener.attach(asyncio.get_running_loop())
        return self.listener

    def connect(self, count: int) -> None:
        for _ in range(count):
            self.clients.append(socket.create_connection(("127.0.0.1", self.port)))

    async def wait_for(self, count: int) -> list[Accepted]:
        def handed() -> list[Accepted]:
            return [connection for target in self.targets for connection in target.got]

        await wait_until_async(lambda: len(handed()) >= count, f"{count} connections to be handed over")
        return handed()

    def close(self) -> None:
        if self.listener is not None:
            self.listener.close()
        self.socket.close()
        self.log.close()
        for target in self.targets:
            target.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "log")
    yield bench
    bench.close()


async def test_connections_are_spread_evenly(bench: Bench) -> None:
    bench.attach(0, 0, 0)
    bench.connect(30)
    await bench.wait_for(30)
    assert [len(target.got) for target in bench.targets] == [10, 10, 10]


async def test_worker_with_fewer_connections_gets_more(bench: Bench) -> None:
    bench.attach(10, 0)
    bench.connect(20)
    await bench.wait_for(20)
    assert [target.load for target in bench.targets] == [15, 15]


async def test_client_ids_count_from_one_and_say_where_from(bench: Bench) -> None:
    bench.attach(0)
    bench.connect(3)
    handed = await bench.wait_for(3)
    assert [connection.client_id for connection in handed] == [1, 2, 3]
    assert [(connection.ip, connection.port) for connection in handed] == [
        client.getsockname() for client in bench.clients
    ]


async def test_handed_over_sockets_do_not_block_and_do_not_delay(bench: Bench) -> None:
    bench.attach(0)
    bench.connect(1)
    (connection,) = await bench.wait_for(1)
    assert not os.get_blocking(connection.descriptor)
    assert not os.get_inheritable(connection.descriptor)
    with socket.socket(fileno=os.dup(connection.descriptor)) as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_connections_past_the_limit_are_marked(bench: Bench) -> None:
    bench.attach(2, 1, max_connections=5)
    bench.connect(4)
    handed = await bench.wait_for(4)
    by_age = sorted(handed)
    assert [connection.over_limit for connection in by_age] == [False, False, True, True]


async def test_connections_wait_in_the_backlog_until_a_worker_is_ready(bench: Bench) -> None:
    listener = bench.attach()
    bench.connect(5)
    bench.targets.append(FakeTarget())
    listener.resume()
    await bench.wait_for(5)


async def test_accepting_pauses_while_links_are_full(bench: Bench) -> None:
    bench.attach(0)
    bench.targets[0].unsent = listener_module.UNSENT_CONNECTIONS_MAX
    bench.connect(3)
    await wait_until_async(lambda: bench.targets[0].asked >= 3, "the listener to look at the link repeatedly")
    assert not bench.targets[0].got
    bench.targets[0].unsent = 0
    await bench.wait_for(3)


async def test_connections_of_a_dead_worker_wait_for_another(bench: Bench) -> None:
    listener = bench.attach(0)
    bench.connect(4)
    orphans = await bench.wait_for(4)
    bench.targets.clear()
    listener.spread(orphans)
    bench.targets.append(FakeTarget())
    listener.resume()
    assert bench.targets[0].got == orphans


async def test_connections_without_a_worker_are_closed_with_the_listener(bench: Bench) -> None:
    listener = bench.attach(0)
    bench.connect(1)
    orphans = await bench.wait_for(1)
    bench.targets.clear()
    listener.spread(orphans)
    listener.close()
    assert bench.clients[0].recv(1) == b""


class RefusingSocket:
    """A listening socket whose kernel has no descriptors left for the first calls."""

    def __init__(self, listening: socket.socket, refusals: int) -> None:
        self._socket = listening
        self.refusals = refusals

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        client, address = self._socket.accept()
        return client, (address[0], address[1])

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()


async def test_no_descriptors_left_is_waited_out_and_said_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "REFUSED_PAUSE_SECONDS", 0.001)
    refusing = RefusingSocket(bench.socket, 5)
    target = FakeTarget()
    bench.targets.append(target)
    listener = Listener(refusing, lambda: [target], bench.log, 0)  # type: ignore[arg-type]
    listener.attach(asyncio.get_running_loop())
    bench.connect(1)
    await bench.wait_for(1)
    listener.close()
    assert bench.log_path.read_text().count("Temporary Client Accept Error (too many open files)") == 1


def bound(host: str) -> tuple[str, int]:
    with bind(host, 0) as listening:
        address: tuple[str, int] = listening.getsockname()[:2]
        return address


def test_name_is_bound_at_its_ipv4_address() -> None:
    assert bound("localhost")[0] == "127.0.0.1"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
@pytest.mark.parametrize("client", ["127.0.0.1", "::1"])
def test_any_address_takes_both_families(host: str, client: str) -> None:
    with bind(host, 0) as listening, socket.create_connection((client, listening.getsockname()[1])):
        listening.setblocking(True)
        accepted, _ = listening.accept()
        accepted.close()


async def test_ipv4_client_of_a_dual_stack_listener_has_an_ipv4_address(tmp_path: Path) -> None:
    target = FakeTarget()
    listening = bind("0.0.0.0", 0)
    listener = Listener(listening, lambda: [target], Log(), 0)
    listener.attach(asyncio.get_running_loop())
    with socket.create_connection(("127.0.0.1", listening.getsockname()[1])):
        await wait_until_async(lambda: target.got, "the connection")
    assert target.got[0].ip == "127.0.0.1"
    listener.close()
    target.close()


def test_busy_port_is_refused_in_nats_servers_words() -> None:
    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(StartError) as caught:
            bind("127.0.0.1", port)
    reason = f"listen tcp 127.0.0.1:{port}: bind: address already in use"
    assert str(caught.value) == f'Error listening on port: 127.0.0.1:{port}, "{reason}"'


def test_port_that_is_busy_on_one_address_is_refused_for_all() -> None:
    with bind("127.0.0.1", 0) as listening, pytest.raises(StartError, match="address already in use"):
        bind("0.0.0.0", listening.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("203.0.113.7", "listen tcp 203.0.113.7:4333: bind: cannot assign requested address"),
        ("bad..host", "listen tcp: lookup bad..host: no such host"),
    ],
)
def test_foreign_address_is_refused(host: str, text: str) -> None:
    with pytest.raises(StartError) as caught:
        bind(host, 4333)
    assert str(caught.value) == f'Error listening on port: {host}:4333, "{text}"'
