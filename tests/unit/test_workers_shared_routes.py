"""Requests of direct get share a route, and only where that changes nothing for anybody."""

from collections.abc import Iterator

import pytest
from support.planes import Client, Mesh, mesh

from workers.sinks import CallSink

PREFIX = b"$JS.API.DIRECT.GET.S"


class Service:
    """A listener for requests about the stream S on worker 0, and clients of two workers."""

    def __init__(self, planes: Mesh) -> None:
        self.planes = planes
        self.taken: list[bytes] = []
        sink = CallSink(lambda subject, *_: self.taken.append(subject))
        for end in (b"", b".>"):
            planes.hosts[0].plane.listen(0, PREFIX + end, sink)
        self.publishers = [planes.connect(worker, no_responders=True, headers=True) for worker in (0, 1)]
        self.watcher: Client = planes.connect(1)
        planes.settle()

    def ask(self, *ends: bytes) -> list[bytes]:
        """Publish on each subject from each worker; return what the listener got, once for both."""
        for publisher in self.publishers:
            publisher.send(b"".join(b"PUB %b%b 0\r\n\r\n" % (PREFIX, end) for end in ends))
            self.planes.settle()
        half = len(self.taken) // 2
        assert self.taken[:half] == self.taken[half:]
        taken = [subject.removeprefix(PREFIX) for subject in self.taken[:half]]
        self.taken.clear()
        return taken

    def watch(self, line: bytes) -> None:
        self.watcher.send(line + b"\r\nPING\r\n")
        self.planes.settle()
        assert self.watcher.take_lines() == [b"PONG"]

    def watched(self) -> list[bytes]:
        """Return what the watcher got, once for both publishers."""
        subjects = [message.subject.removeprefix(PREFIX) for message in self.watcher.take_messages()]
        half = len(subjects) // 2
        assert subjects[:half] == subjects[half:]
        return subjects[:half]


@pytest.fixture
def service() -> Iterator[Service]:
    with mesh(2) as planes:
        yield Service(planes)


def test_all_subjects_of_a_stream_share_a_route(service: Service) -> None:
    before = service.planes.counter("routes_cached", 0)
    ends = [b".key.%d" % number for number in range(50)]
    assert service.ask(*ends) == ends
    assert service.planes.counter("routes_cached", 0) - before <= 2


@pytest.mark.parametrize("pattern", [b".a.b", b".a.*", b".*", b".a.>", b".*.b", b".a.b.c"])
def test_interest_in_some_of_them_gets_those_alone(service: Service, pattern: bytes) -> None:
    ends = (b".a.b", b".a.c", b".a", b".b", b".a.b.c", b".x.b", b"")
    matches = {
        b".a.b": [b".a.b"],
        b".a.*": [b".a.b", b".a.c"],
        b".*": [b".a", b".b"],
        b".a.>": [b".a.b", b".a.c", b".a.b.c"],
        b".*.b": [b".a.b", b".x.b"],
        b".a.b.c": [b".a.b.c"],
    }
    for order in (ends, ends[::-1]):
        assert service.ask(*order) == list(order)
        service.watch(b"SUB %b%b 1" % (PREFIX, pattern))
        assert service.ask(*order) == list(order)
        assert service.watched() == [end for end in order if end in matches[pattern]]
        service.watch(b"UNSUB 1")
        assert service.ask(*order) == list(order)
        assert service.watched() == []


@pytest.mark.parametrize("pattern", [b"$JS.>", b"$JS.API.*.GET.>", b">", b"*.*.*.*.*.a.*"])
def test_wider_interest_gets_them_too(service: Service, pattern: bytes) -> None:
    assert service.ask(b".a.b", b".a.c", b".x") == [b".a.b", b".a.c", b".x"]
    service.watch(b"SUB %b 1" % pattern)
    assert service.ask(b".a.b", b".a.c", b".x") == [b".a.b", b".a.c", b".x"]
    expected = [b".a.b", b".a.c", b".x"] if pattern.endswith(b">") else [b".a.b", b".a.c"]
    assert service.watched() == expected


def test_subject_with_an_empty_token_reaches_nobody(service: Service) -> None:
    assert service.ask(b".a", b".a..b", b".", b".a.", b"..a") == [b".a"]


def test_streams_are_told_apart(service: Service) -> None:
    assert service.ask(b".a", b"X.a", b"X") == [b".a"]
