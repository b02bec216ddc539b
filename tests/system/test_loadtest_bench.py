"""`midge bench` end to end: right figures from a right server, a failure from one that lies."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pytest
from support.broker import Broker

from loadtest.bench import main
from loadtest.client import Server
from loadtest.plan import Plan, Scenario
from loadtest.runner import Around, prepared

# Workers that pass messages on, and the oracle; one worker alone adds nothing to what is tested here.
pytestmark = pytest.mark.servers("midge-2", "nats-server")

CLIENT_LINE = re.compile(rb"(PUB|SUB|CONNECT|PING|PONG)\b ?([^\r]*)\r\n")
Tamper = Callable[[int, bytes], list[bytes]]


def bench(capsys: pytest.CaptureFixture[str], port: int, *words: str) -> tuple[int, dict[str, object]]:
    """Run the command and return its exit status and what it printed."""
    capsys.readouterr()
    status = main([*words, "-s", f"127.0.0.1:{port}", "--json", "--quiet"])
    return status, json.loads(capsys.readouterr().out)


SCENARIOS = [
    ("pub --msgs 2000 --size 16 --pub 2", 2000, 0),
    ("pub --msgs 300 --size 16 --rate 3000", 300, 0),
    ("pubsub --msgs 2000 --size 16", 2000, 2000),
    ("pubsub --msgs 2000 --size 0 --pub 2 --sub 2 --threads 2", 2000, 4000),
    ("pubsub --msgs 2000 --size 7 --pub 4 --sub 4 --pairs", 2000, 2000),
    ("pubsub --msgs 2000 --size 64 --subjects 100", 2000, 2000),
    ("pubsub --msgs 40 --size 1000000", 40, 40),
    ("pubsub --msgs 300 --size 16 --rate 3000 --pub 2 --sub 2", 300, 600),
    ("fanout --msgs 500 --size 128 --threads 2", 500, 4000),
    ("queue --msgs 2000 --size 16 --pub 2 --threads 2", 2000, 2000),
    ("request --msgs 200 --size 16", 200, 200),
    ("request --msgs 1000 --size 4 --window 16 --pub 3 --sub 2 --threads 2", 1000, 1000),
    ("request --msgs 300 --size 16 --rate 3000 --window 8", 300, 300),
]


@pytest.mark.parametrize(
    ("words", "published", "delivered"), SCENARIOS, ids=[words for words, _, _ in SCENARIOS]
)
def test_a_scenario_counts_every_message(
    server: Broker, capsys: pytest.CaptureFixture[str], words: str, published: int, delivered: int
) -> None:
    status, found = bench(capsys, server.port, *words.split())
    assert (status, found["failures"]) == (0, [])
    assert (found["published"], found["delivered"]) == (published, delivered)
    assert isinstance(found["rate_per_s"], float)
    assert found["rate_per_s"] > 0
    assert (found["latency_ns"] is not None) == ("request" in words or ("--rate" in words and delivered > 0))


def test_a_duration_ends_publishing(server: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = bench(capsys, server.port, "pubsub", "--duration", "0.1", "--size", "16", "--sub", "2")
    assert status == 0
    assert found["published"] * 2 == found["delivered"] > 0  # type: ignore[operator]


def test_subscribers_check_what_another_bench_publishes(server: Broker) -> None:
    address = Server("127.0.0.1", server.port)
    plan = Plan(Scenario.SUB, address, messages=500, size=16, subscribers=2, subject="elsewhere", verify=True)
    words = [
        "pub",
        "--msgs",
        "600",
        "--size",
        "16",
        "--subject",
        "elsewhere",
        "-s",
        f"127.0.0.1:{server.port}",
    ]
    with prepared(plan) as subscribers:
        publisher = threading.Thread(target=main, args=(words,))
        publisher.start()
        outcome = subscribers.execute(Around())
        publisher.join()
    assert outcome.failures == []
    assert outcome.delivered == 1000


def test_a_table_is_printed(server: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["request", "--msgs", "100", "-s", f"127.0.0.1:{server.port}", "--quiet"]) == 0
    table = capsys.readouterr().out
    for name in ("requests", "payload", "latency p50", "latency p99", "latency p99.9", "latency max"):
        assert name in table


class LyingServer:
    """A server just good enough for a bench that hands every delivery to `tamper` before it is sent."""

    def __init__(self, tamper: Tamper) -> None:
        self._tamper = tamper
        self._lock = threading.Lock()
        self._subscribers: list[tuple[bytes, bytes, socket.socket]] = []
        self._delivered = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as stream:
            try:
                client.sendall(b'INFO {"server_id":"liar"} \r\n')
                while line := CLIENT_LINE.fullmatch(stream.readline()):
                    self._handle(client, stream, line)
            except OSError:
                # A bench that has found the lie closes all its connections.
                return

    def _handle(self, client: socket.socket, stream: BinaryIO, line: re.Match[bytes]) -> None:
        verb, words = line[1], line[2].split()
        with self._lock:
            if verb == b"PING":
                client.sendall(b"PONG\r\n")
            elif verb == b"SUB":
                self._subscribers.append((words[0], words[-1], client))
            elif verb == b"PUB":
                payload = stream.read(int(words[-1]) + 2)
                for subject, sid, subscriber in self._subscribers:
                    if subject == words[0] or (subject.endswith(b"*") and words[0].startswith(subject[:-1])):
                        head = b" ".join([b"MSG", words[0], sid, *words[1:]])
                        subscriber.sendall(b"".join(self._tamper(self._delivered, head + b"\r\n" + payload)))
                        self._delivered += 1


@contextmanager
def lying_server(tamper: Tamper) -> Iterator[LyingServer]:
    server = LyingServer(tamper)
    try:
        yield server
    finally:
        server.close()


class Swap:
    """Exchange delivery 500 with the one after it."""

    def __init__(self) -> None:
        self._held = b""

    def __call__(self, index: int, frame: bytes) -> list[bytes]:
        if index == 500:
            self._held = frame
            return []
        return [frame, self._held] if index == 501 else [frame]


def at(position: int, change: Callable[[bytes], list[bytes]]) -> Tamper:
    return lambda index, frame: change(frame) if index == position else [frame]


PUBSUB = "pubsub --msgs 1000 --size 16"
LIES: list[tuple[str, str, Callable[[], Tamper], str]] = [
    ("nothing", PUBSUB, lambda: at(-1, lambda frame: []), ""),
    ("lost", PUBSUB, lambda: at(500, lambda frame: []), "sequence 501 came where 500 was due"),
    (
        "last lost",
        PUBSUB,
        lambda: at(999, lambda frame: []),
        "nothing moved any more: 1000 published, 999 delivered",
    ),
    ("swapped", PUBSUB, Swap, "sequence 501 came where 500 was due"),
    ("twice", PUBSUB, lambda: at(500, lambda frame: [frame, frame]), "sequence 500 came where 501 was due"),
    ("last twice", PUBSUB, lambda: at(999, lambda frame: [frame, frame]), "sequence 999|a message too many"),
    (
        "damaged",
        PUBSUB,
        lambda: at(64, lambda frame: [frame[:-4] + b"??\r\n"]),
        "damaged payload in sequence 64",
    ),
    (
        "shorter",
        PUBSUB,
        lambda: at(9, lambda frame: [b"MSG bench 1 15\r\n" + b"x" * 15 + b"\r\n"]),
        "15 bytes",
    ),
    ("error", PUBSUB, lambda: at(9, lambda frame: [b"-ERR 'Slow Consumer'\r\n"]), "Slow Consumer"),
    ("garbage", PUBSUB, lambda: at(9, lambda frame: [b"MGS" + frame]), "no operation"),
    (
        "queue twice",
        "queue --msgs 1000 --size 16 --sub 1",
        lambda: at(9, lambda frame: [frame, frame]),
        "sequence 9",
    ),
    ("size 0 lost", "pubsub --msgs 1000 --size 0", lambda: at(9, lambda frame: []), "999 delivered"),
    (
        "reply lost",
        "request --msgs 100 --size 16",
        lambda: at(101, lambda frame: []),
        "nothing moved any more",
    ),
    ("reply twice", "request --msgs 100", lambda: at(101, lambda frame: [frame, frame]), "nothing waits for"),
]


@pytest.mark.parametrize(("name", "words", "tamper", "said"), LIES, ids=[name for name, *_ in LIES])
def test_a_server_that_lies_is_found_out(
    capsys: pytest.CaptureFixture[str], name: str, words: str, tamper: Callable[[], Tamper], said: str
) -> None:
    with lying_server(tamper()) as server:
        status, found = bench(capsys, server.port, *words.split(), "--idle-timeout", "0.3")
    if name == "nothing":
        assert (status, found["failures"]) == (0, [])
        return
    assert (status, found["is_right"]) == (1, False)
    assert re.search(said, str(found["failures"]))


def test_a_server_that_is_not_there_is_one_line_and_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert main(["pub", "-s", f"127.0.0.1:{port}"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
