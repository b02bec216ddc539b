"""Direct get on a data plane: every form of request, answered as nats-server answers it."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from support.planes import Client, Received, mesh

from storage.memory import memory_stream
from workers.jetstream import gojson
from workers.jetstream.direct import DirectGet, format_time
from workers.jetstream.direct_requests import (
    MULTI_LAST_MAX,
    SLICE_BYTES,
    SLICE_MESSAGES,
    needs_newer_level,
)

SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000 * SECOND_NS
MAX_PENDING = 64 << 20
OWN_HEADERS = b"NATS/1.0\r\nA: b\r\n\r\n"


class Service:
    """A stream named S with direct get, alone on its worker, and a client that asks.

    Message n of the twelve has the payload `p<n>`, was stored n seconds after START_NS on <a|b|c>.<0|1>, and
    every fourth has headers. Messages 1, 5 and 12 have been deleted.
    """

    def __init__(self, planes: Any, *, is_memory: bool = False, max_pending: int = MAX_PENDING) -> None:
        self.planes = planes
        self.host = planes.hosts[0]
        self.store = memory_stream()
        self.is_memory = is_memory
        for number in range(1, 13):
            self.append(f"{'abc'[number % 3]}.{number % 2}")
        self.store.delete_many([1, 5, 12])
        self.name = "S"
        self.engine = SimpleNamespace(
            config=SimpleNamespace(max_pending=max_pending),
            later=lambda seconds, callback: self.host.soon.append(callback),
        )
        self.direct = DirectGet(self)  # type: ignore[arg-type]
        self.listeners = [
            self.host.plane.listen(0, subject, self.direct)
            for subject in (b"$JS.API.DIRECT.GET.S", b"$JS.API.DIRECT.GET.S.>", b"$JS.HUB.API.DIRECT.GET.S.>")
        ]
        self.client: Client = planes.connect(headers=True)
        self.client.send(b"SUB in 1\r\n")

    def append(self, subject: str, headers: bytes | None = None, payload: bytes | None = None) -> int:
        number = self.store.last_sequence + 1
        if headers is None:
            headers = b"" if number % 4 else OWN_HEADERS
        body = b"p%d" % number if payload is None else payload
        return self.store.append(subject.encode(), headers, body, START_NS + number * SECOND_NS)

    def ask(self, body: str = "", key: str = "", headers: bytes = b"") -> list[Received]:
        """Return the answers to one request.

        In its body `@n` is the time of message n, `@n+` 1 ns later.
        """
        for number in range(12, 0, -1):
            for mark, nanoseconds in ((f"@{number}+", 1), (f"@{number}", 0)):
                text = gojson.format_time(START_NS + number * SECOND_NS + nanoseconds)
                body = body.replace(mark, text)
        subject = b"$JS.API.DIRECT.GET.S" + (b"." + key.encode() if key else b"")
        self.publish(subject, body.encode(), headers)
        return self.answers()

    def publish(self, subject: bytes, body: bytes, headers: bytes = b"") -> None:
        if headers:
            sizes = b"%d %d" % (len(headers), len(headers) + len(body))
            self.client.send(b"HPUB %b in %b\r\n%b%b\r\n" % (subject, sizes, headers, body))
        else:
            self.client.send(b"PUB %b in %d\r\n%b\r\n" % (subject, len(body), body))

    def answers(self) -> list[Received]:
        self.planes.settle()
        return self.client.take_messages()

    def told(self, body: str = "", key: str = "", headers: bytes = b"") -> str:
        """Return the answers in short form, see `short`."""
        return ", ".join(short(answer) for answer in self.ask(body, key, headers))


def short(answer: Received) -> str:
    """Write an answer as `p2`, `2` (its sequence), `2/8/0` (with pending and last), or `404 … key:value`."""
    lines = (answer.headers or b"").decode().split("\r\n")
    values = dict(line.split(": ", 1) for line in lines[1:] if line)
    if lines[0] == "":
        return answer.payload.decode()
    if lines[0] != "NATS/1.0":
        assert answer.payload == b""
        return " ".join([lines[0].removeprefix("NATS/1.0 "), *values.values()])
    sequence = values["Nats-Sequence"]
    assert values["Nats-Stream"] == "S"
    assert answer.payload == b"p" + sequence.encode()
    assert ("A" in values) == (int(sequence) % 4 == 0)
    if "Nats-Num-Pending" in values:
        return f"{sequence}/{values['Nats-Num-Pending']}/{values['Nats-Last-Sequence']}"
    return sequence


@pytest.fixture
def service() -> Iterator[Service]:
    with mesh(1) as planes:
        yield Service(planes)


EMPTY = "408 Empty Request"
MALFORMED = "408 Malformed Request"
BAD = "408 Bad Request"
NOT_FOUND = "404 Message Not Found"
NO_RESULTS = "404 No Results"


def test_answer_has_the_stored_headers_and_where_the_message_lies(service: Service) -> None:
    for key, body in (
        ("", '{"seq":8}'),
        ("", ' {\t"seq" :8 }\r\n'),
        ("c.0", ""),
        ("", '{"last_by_subj":"c.0"}'),
    ):
        [answer] = service.ask(body, key)
        assert answer.subject == b"in"
        assert answer.reply == b""
        assert answer.payload == b"p8"
        assert answer.headers == (
            b"NATS/1.0\r\nA: b\r\nNats-Stream: S\r\nNats-Subject: c.0\r\nNats-Sequence: 8\r\n"
            b"Nats-Time-Stamp: 2023-11-14T22:13:28Z\r\n\r\n"
        )
    [answer] = service.ask(key="a.0")
    assert answer.headers == (
        b"NATS/1.0\r\nNats-Stream: S\r\nNats-Subject: a.0\r\nNats-Sequence: 6\r\n"
        b"Nats-Time-Stamp: 2023-11-14T22:13:26Z\r\n\r\n"
    )


def test_answer_in_a_batch_has_its_place(service: Service) -> None:
    answers = service.ask('{"seq":7,"batch":2}')
    assert [answer.headers for answer in answers] == [
        b"NATS/1.0\r\nNats-Stream: S\r\nNats-Subject: b.1\r\nNats-Sequence: 7\r\n"
        b"Nats-Time-Stamp: 2023-11-14T22:13:27Z\r\nNats-Num-Pending: 4\r\nNats-Last-Sequence: 0\r\n\r\n",
        b"NATS/1.0\r\nA: b\r\nNats-Stream: S\r\nNats-Subject: c.0\r\nNats-Sequence: 8\r\n"
        b"Nats-Time-Stamp: 2023-11-14T22:13:28Z\r\nNats-Num-Pending: 3\r\nNats-Last-Sequence: 7\r\n\r\n",
        b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 3\r\nNats-Last-Sequence: 8\r\n\r\n",
    ]
    last = service.ask('{"multi_last":["a.0"]}')[-1]
    assert last.headers == (
        b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 6\r\nNats-UpTo-Sequence: 12\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ('{"seq":2}', "2"),
        ('{"SEQ":2}', "2"),
        ('{"seq":2,"bogus":1}', "2"),
        ('{"seq":8,"no_hdr":true}', "p8"),
        ('{"seq":2,"max_bytes":1}', "2"),
        ('{"seq":5}', NOT_FOUND),
        ('{"seq":99}', NOT_FOUND),
        ('{"seq":9223372036854775808}', NOT_FOUND),
        ('{"seq":18446744073709551616}', MALFORMED),
        ('{"seq":02}', MALFORMED),
        ('{"seq":-1}', MALFORMED),
        ('{"seq":1.5}', MALFORMED),
        ('{"seq":"2"}', MALFORMED),
        ('{"seq":2', MALFORMED),
        ('{"seq":2}x', MALFORMED),
        ('{"seq":2}{"seq":3}', MALFORMED),
        ('{"seq":2,"batch":"x"}', MALFORMED),
        ('{"start_time":"x"}', MALFORMED),
        ('{"multi_last":"x"}', MALFORMED),
        (" ", MALFORMED),
        ("[]", MALFORMED),
        ("x", MALFORMED),
        ("", EMPTY),
        ("{}", EMPTY),
        ("null", EMPTY),
        ('{"seq":0}', EMPTY),
        ('{"last_by_subj":""}', EMPTY),
        ('{"batch":3}', EMPTY),
        ('{"no_hdr":true}', EMPTY),
        ('{"multi_last":[]}', EMPTY),
        ('{"up_to_seq":4}', EMPTY),
        ('{"up_to_time":"@2"}', EMPTY),
        ('{"seq":2,"last_by_subj":"x"}', BAD),
        ('{"seq":2,"start_time":"@2"}', BAD),
        ('{"last_by_subj":"x","start_time":"@2"}', BAD),
        ('{"last_by_subj":"x","next_by_subj":"y"}', BAD),
        ('{"last_by_subj":"x","batch":1}', BAD),
        ('{"last_by_subj":"x","multi_last":["y"]}', BAD),
        ('{"next_by_subj":"x","multi_last":["y"]}', BAD),
        ('{"seq":1,"up_to_seq":1,"up_to_time":"@2"}', BAD),
        ('{"last_by_subj":"a.0"}', "6"),
        ('{"last_by_subj":"\\u0061.0"}', "6"),
        ('{"last_by_subj":"*.0"}', "10"),
        ('{"last_by_subj":"c.>"}', "11"),
        ('{"last_by_subj":">"}', NOT_FOUND),
        ('{"last_by_subj":"a.0>"}', NOT_FOUND),
        ('{"last_by_subj":"nope"}', NOT_FOUND),
        ('{"last_by_subj":"a.0","no_hdr":true}', "p6"),
        ('{"last_by_subj":"a.0","up_to_seq":3}', "6"),
        ('{"last_by_subj":"a.0","batch":-1}', "204 EOB 9 0"),
        ('{"next_by_subj":"a.0"}', "6"),
        ('{"next_by_subj":"b.*","seq":5}', "7"),
        ('{"next_by_subj":"b.*","start_time":"@5"}', "7"),
        ('{"start_time":"@5"}', "6"),
        ('{"start_time":"@4+"}', "6"),
        ('{"start_time":"2100-01-01T00:00:00Z"}', NOT_FOUND),
        ('{"start_time":"9999-01-01T00:00:00Z"}', NOT_FOUND),
    ],
)
def test_request_for_one_message(service: Service, body: str, answer: str) -> None:
    assert service.told(body) == answer


@pytest.mark.parametrize(
    ("body", "answers"),
    [
        ('{"seq":2,"batch":3}', "2/8/0, 3/7/2, 4/6/3, 204 EOB 6 4"),
        ('{"seq":1,"batch":1}', "2/8/0, 204 EOB 8 2"),
        ('{"seq":4,"batch":2}', "4/6/0, 6/5/4, 204 EOB 5 6"),
        ('{"seq":4,"batch":2,"no_hdr":true}', "p4, p6, 204 EOB 7 6"),
        ('{"seq":10,"batch":9}', "10/1/0, 11/0/10, 204 EOB 0 11"),
        ('{"seq":12,"batch":1}', NOT_FOUND),
        ('{"seq":99,"batch":2}', NOT_FOUND),
        ('{"seq":2,"batch":-1}', "204 EOB 9 0"),
        ('{"next_by_subj":"a.*","batch":2}', "3/2/0, 6/1/3, 204 EOB 1 6"),
        ('{"next_by_subj":"a.*","batch":20}', "3/2/0, 6/1/3, 9/0/6, 204 EOB 0 9"),
        ('{"next_by_subj":"a.*","seq":6,"batch":20}', "6/1/0, 9/0/6, 204 EOB 0 9"),
        ('{"next_by_subj":"nope","batch":20}', NOT_FOUND),
        ('{"next_by_subj":">","batch":2,"seq":6}', "6/5/0, 7/4/6, 204 EOB 4 7"),
        ('{"start_time":"@6","batch":2}', "6/5/0, 7/4/6, 204 EOB 4 7"),
        ('{"next_by_subj":"b.*","start_time":"@5","batch":2}', "7/1/0, 10/0/7, 204 EOB 0 10"),
        ('{"start_time":"2100-01-01T00:00:00Z","batch":2}', NOT_FOUND),
        ('{"seq":2,"batch":9,"max_bytes":1}', "2/8/0, 204 EOB 8 2"),
        ('{"seq":2,"batch":9,"max_bytes":10}', "2/8/0, 3/7/2, 204 EOB 7 3"),
        ('{"seq":2,"batch":9,"max_bytes":11}', "2/8/0, 3/7/2, 4/6/3, 204 EOB 6 4"),
        ('{"seq":2,"batch":9,"max_bytes":-1}', "2/8/0, 204 EOB 8 2"),
        ('{"seq":2,"batch":2,"up_to_seq":1}', "2/8/0, 3/7/2, 204 EOB 7 3"),
    ],
)
def test_request_for_a_batch(service: Service, body: str, answers: str) -> None:
    assert service.told(body) == answers


ALL_LAST = "6/5/0, 7/4/6, 8/3/7, 9/2/8, 10/1/9, 11/0/10, 204 EOB 0 11 12"


@pytest.mark.parametrize(
    ("body", "answers"),
    [
        ('{"multi_last":[">"]}', ALL_LAST),
        ('{"multi_last":[">"],"batch":-2}', ALL_LAST),
        ('{"multi_last":[">"],"batch":6}', ALL_LAST),
        ('{"multi_last":[">"],"no_hdr":true}', ALL_LAST),
        ('{"multi_last":[">"],"start_time":"@7"}', ALL_LAST),
        ('{"multi_last":[">"],"up_to_time":"2100-01-01T00:00:00Z"}', ALL_LAST),
        ('{"multi_last":["a.0","b.*"]}', "6/2/0, 7/1/6, 10/0/7, 204 EOB 0 10 12"),
        ('{"multi_last":["a.0","a.0"]}', "6/0/0, 204 EOB 0 6 12"),
        ('{"multi_last":["nope"]}', NO_RESULTS),
        ('{"multi_last":[""]}', NO_RESULTS),
        ('{"multi_last":[null]}', NO_RESULTS),
        ('{"multi_last":["a.>.x"]}', NO_RESULTS),
        ('{"multi_last":[">"],"batch":2}', "6/5/0, 7/4/6, 204 EOB 4 7 12"),
        ('{"multi_last":[">"],"max_bytes":10}', "6/5/0, 7/4/6, 204 EOB 4 7 12"),
        ('{"multi_last":[">"],"seq":9}', "9/2/0, 10/1/9, 11/0/10, 204 EOB 0 11 12"),
        ('{"multi_last":[">"],"seq":99}', "204 EOB 0 0 12"),
        ('{"multi_last":[">"],"up_to_seq":7}', "2/4/0, 3/3/2, 4/2/3, 6/1/4, 7/0/6, 204 EOB 0 7 7"),
        ('{"multi_last":[">"],"up_to_seq":2}', "2/0/0, 204 EOB 0 2 2"),
        ('{"multi_last":[">"],"up_to_seq":1}', NO_RESULTS),
        ('{"multi_last":[">"],"up_to_seq":99}', NO_RESULTS),
        ('{"multi_last":[">"],"up_to_time":"@7"}', "2/3/0, 3/2/2, 4/1/3, 6/0/4, 204 EOB 0 6 6"),
        ('{"multi_last":[">"],"up_to_time":"@7+"}', "2/4/0, 3/3/2, 4/2/3, 6/1/4, 7/0/6, 204 EOB 0 7 7"),
        ('{"multi_last":[">"],"up_to_time":"@2"}', NO_RESULTS),
        ('{"multi_last":[">"],"up_to_time":"@7","up_to_seq":3}', BAD),
        (
            '{"multi_last":["a.*","*.0"],"seq":4,"up_to_seq":9,"batch":2}',
            "4/3/0, 6/2/4, 204 EOB 2 6 9",
        ),
    ],
)
def test_request_for_the_last_of_many_subjects(service: Service, body: str, answers: str) -> None:
    assert service.told(body) == answers


def test_up_to_a_sequence_beyond_the_last_is_fine_in_a_memory_stream() -> None:
    with mesh(1) as planes:
        told = Service(planes, is_memory=True).told('{"multi_last":["a.*"],"up_to_seq":99}')
    assert told == "6/1/0, 9/0/6, 204 EOB 0 9 99"


@pytest.mark.parametrize(
    ("key", "body", "answer"),
    [
        ("a.0", "", "6"),
        ("a.*", "", "9"),
        ("c.>", "", "11"),
        (">", "", NOT_FOUND),
        ("nope", "", NOT_FOUND),
        ("a.0", "{}", "6"),
        ("a.0", "null", "6"),
        ("a.0", '{"no_hdr":true}', "p6"),
        ("a.0", '{"seq":0}', "6"),
        ("a.0", '{"max_bytes":1}', "6"),
        ("a.0", " ", MALFORMED),
        ("a.0", "x", MALFORMED),
        ("a.0", "[]", MALFORMED),
        ("a.0", '{"seq":1}', BAD),
        ("a.0", '{"batch":1}', BAD),
        ("a.0", '{"batch":-1}', BAD),
        ("a.0", '{"last_by_subj":"x"}', BAD),
        ("a.0", '{"next_by_subj":"x"}', BAD),
        ("a.0", '{"multi_last":["x"]}', BAD),
        ("a.0", '{"up_to_seq":1}', BAD),
        ("a.0", '{"up_to_time":"@2"}', BAD),
        ("a.0", '{"start_time":"@2"}', BAD),
    ],
)
def test_subject_in_the_request_subject(service: Service, key: str, body: str, answer: str) -> None:
    assert service.told(body, key) == answer


@pytest.mark.parametrize("key", ["", "a.0"])
@pytest.mark.parametrize(
    ("level", "is_refused"),
    [("99", True), ("6", True), ("x", True), ("1 ", True), ("5", False), ("-5", False), ("", False)],
)
def test_required_api_level(service: Service, key: str, level: str, is_refused: bool) -> None:
    headers = f"NATS/1.0\r\nNats-Required-Api-Level: {level}\r\n\r\n".encode()
    answer = "412 Required Api Level" if is_refused else "6"
    assert service.told("" if key else '{"seq":6}', key, headers) == answer


def test_level_header_is_found_as_it_is_written_only() -> None:
    assert not needs_newer_level(b"NATS/1.0\r\nnats-required-api-level: 99\r\n\r\n")
    assert needs_newer_level(b"NATS/1.0\r\nA: b\r\nNats-Required-Api-Level:99\r\n\r\n")
    assert not needs_newer_level(b"")


def test_other_headers_do_not_matter(service: Service) -> None:
    assert service.told("", "a.0", OWN_HEADERS) == "6"


def test_request_without_reply_is_ignored(service: Service) -> None:
    service.client.send(b"PUB $JS.API.DIRECT.GET.S.a.0 0\r\n\r\nPING\r\n")
    assert service.answers() == []
    assert service.client.take_lines() == [b"PONG"]


def test_domain_in_the_subject_is_no_part_of_the_key(service: Service) -> None:
    service.publish(b"$JS.HUB.API.DIRECT.GET.S.a.0", b"")
    assert [short(answer) for answer in service.answers()] == ["6"]


def test_subject_that_is_no_utf8_is_found(service: Service) -> None:
    service.store.append(b"raw.\xff", b"", b"p13", START_NS)
    for headers in (b"", OWN_HEADERS):
        service.publish(b"$JS.API.DIRECT.GET.S.raw.\xff", b"", headers)
        assert [answer.payload for answer in service.answers()] == [b"p13"]


def test_large_message_and_large_headers(service: Service) -> None:
    headers = b"NATS/1.0\r\nLong: " + b"x" * 20_000 + b"\r\n\r\n"
    payload = b"y" * 1_000_000
    service.append("large", headers, payload)
    [answer] = service.ask(key="large")
    assert answer.payload == payload
    assert answer.headers is not None
    assert answer.headers.startswith(headers[:-2] + b"Nats-Stream: S\r\n")


def test_long_batch_comes_in_slices_between_other_work(service: Service) -> None:
    for _ in range(3 * SLICE_MESSAGES):
        service.append("d")
    service.publish(b"$JS.API.DIRECT.GET.S", b'{"next_by_subj":"d","batch":100000}')
    service.host.plane.run()
    service.client.receive()
    first = service.client.take_messages()
    assert len(first) == SLICE_MESSAGES
    rest = service.answers()
    sequences = [int(short(answer).split("/")[0]) for answer in (*first, *rest[:-1])]
    assert sequences == list(range(13, 13 + 3 * SLICE_MESSAGES))
    assert short(rest[-1]) == f"204 EOB 0 {sequences[-1]}"


def test_slices_are_bounded_by_bytes(service: Service) -> None:
    for _ in range(4):
        service.append("d", payload=b"x" * (SLICE_BYTES // 2))
    service.publish(b"$JS.API.DIRECT.GET.S", b'{"next_by_subj":"d","batch":4}')
    service.host.plane.run()
    service.client.receive()
    first = len(service.client.take_messages())
    assert first <= 2
    assert first + len(service.answers()) == 5


def test_end_of_batch_counts_what_came_meanwhile(service: Service) -> None:
    for _ in range(SLICE_MESSAGES + 1):
        service.append("d")
    service.publish(b"$JS.API.DIRECT.GET.S", b'{"next_by_subj":"d","batch":%d}' % (SLICE_MESSAGES + 1))
    service.host.plane.run()
    service.append("d")
    service.append("e")
    answers = service.answers()
    assert short(answers[-1]) == f"204 EOB 1 {13 + SLICE_MESSAGES}"


def test_multi_last_shows_one_moment(service: Service) -> None:
    """What is overwritten while slices are sent is still answered as it was."""
    for number in range(SLICE_MESSAGES + 10):
        service.append(f"k.{number}")
    service.publish(b"$JS.API.DIRECT.GET.S", b'{"multi_last":["k.*"]}')
    service.host.plane.run()
    last = service.store.last_sequence
    for sequence in range(13, last + 1):
        service.store.delete(sequence)
    answers = service.answers()
    assert len(answers) == SLICE_MESSAGES + 11
    assert short(answers[-1]) == f"204 EOB 0 {last} {last}"


def test_too_many_subjects_are_refused(service: Service) -> None:
    for number in range(MULTI_LAST_MAX):
        service.append(f"k.{number}")
    assert len(service.ask('{"multi_last":["k.*"]}')) == MULTI_LAST_MAX + 1
    assert service.told('{"multi_last":["k.*","a.0"]}') == "413 Too Many Results"
    # Subjects whose messages are all newer do not count.
    assert service.told('{"multi_last":[">"],"up_to_seq":3}') == "2/1/0, 3/0/2, 204 EOB 0 3 3"


def test_batch_ends_with_the_bytes_that_a_client_may_have_pending() -> None:
    with mesh(1) as planes:
        service = Service(planes, max_pending=10)
        assert service.told('{"seq":2,"batch":9}') == "2/8/0, 3/7/2, 204 EOB 7 3"
        assert service.told('{"multi_last":[">"]}') == "6/5/0, 7/4/6, 204 EOB 4 7 12"


def test_answers_stop_when_the_stream_no_longer_listens() -> None:
    with mesh(1) as planes:
        service = Service(planes)
        for _ in range(2 * SLICE_MESSAGES):
            service.append("d")
        service.publish(b"$JS.API.DIRECT.GET.S", b'{"next_by_subj":"d","batch":100000}')
        service.host.plane.run()
        for listener in service.listeners:
            service.host.plane.unlisten(listener)
        assert len(service.answers()) == SLICE_MESSAGES


def test_damaged_message_is_not_found_and_left_out_of_batches(service: Service) -> None:
    service.store.mark_lost(7)
    assert service.told('{"seq":7}') == NOT_FOUND
    assert service.told('{"seq":6,"batch":2}') == "6/4/0, 8/3/6, 204 EOB 3 8"


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, b"1970-01-01T00:00:00Z"),
        (1, b"1970-01-01T00:00:00.000000001Z"),
        (951782400 * SECOND_NS, b"2000-02-29T00:00:00Z"),
        (1709251199 * SECOND_NS + 500_000_000, b"2024-02-29T23:59:59.5Z"),
        (4102444800 * SECOND_NS, b"2100-01-01T00:00:00Z"),
        (4107542400 * SECOND_NS, b"2100-03-01T00:00:00Z"),
        ((1 << 63) - 1, b"2262-04-11T23:47:16.854775807Z"),
    ],
)
def test_time_is_written_as_go_writes_it(time_ns: int, text: bytes) -> None:
    assert format_time(time_ns) == text


def test_time_agrees_with_the_calendar_on_every_day() -> None:
    for day in range(1, 90_000, 7):
        time_ns = day * 86_400 * SECOND_NS + day * 12_345_678_900
        assert format_time(time_ns).decode() == gojson.format_time(time_ns)
