"""STREAM.MSG.GET, STREAM.MSG.DELETE and STREAM.PURGE on one stream; the answers are nats-server's."""

import base64
from types import SimpleNamespace
from typing import Any

import pytest

from storage.errors import RecordDamaged
from storage.memory import memory_stream
from storage.stream import StreamStore
from workers.jetstream import gojson, message_api
from workers.jetstream.apierrors import ApiError

SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000 * SECOND_NS
LAST = 12


def make_stream(*, is_memory: bool = False, **config: bool) -> Any:
    """Return a stream of twelve messages on <a|b|c>.<0|1>; message n was stored n seconds after START_NS."""
    store = memory_stream()
    for number in range(1, LAST + 1):
        subject = f"{'abc'[number % 3]}.{number % 2}".encode()
        headers = b"" if number % 4 else b"NATS/1.0\r\nA: b\r\n\r\n"
        store.append(subject, headers, b"p%d" % number, START_NS + number * SECOND_NS)
    settings = {"sealed": False, "deny_delete": False, "deny_purge": False, **config}
    commits: list[int] = []
    engine = SimpleNamespace(
        now_ns=lambda: START_NS + 100 * SECOND_NS,
        commit_soon=lambda: commits.append(1),
    )
    return SimpleNamespace(
        store=store,
        config=SimpleNamespace(**settings),
        engine=engine,
        is_memory=is_memory,
        commits=commits,
        consumers=SimpleNamespace(removed=lambda: None),
    )


def get(stream: Any, body: str) -> dict[str, object]:
    return message_api.msg_get(stream, message_api.parse_msg_get(body.encode(), strict=True))


def delete(stream: Any, body: str) -> dict[str, object]:
    return message_api.msg_delete(stream, message_api.parse_msg_delete(body.encode(), strict=True))


def purge(stream: Any, body: str) -> dict[str, object]:
    return message_api.purge(stream, message_api.parse_purge(body.encode(), strict=True))


def time_of(number: int, nanoseconds: int = 0) -> str:
    return gojson.format_time(START_NS + number * SECOND_NS + nanoseconds)


def refusal(call: Any, stream: Any, body: str) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        call(stream, body)
    return caught.value.err_code, caught.value.description


def sequences(store: StreamStore) -> list[int]:
    return [message.sequence for message in store.read(1, 100)]


def test_message_is_shown_with_base64_and_time() -> None:
    stream = make_stream()
    assert get(stream, '{"seq":8}') == {
        "message": {
            "subject": "c.0",
            "seq": 8,
            "hdrs": base64.b64encode(b"NATS/1.0\r\nA: b\r\n\r\n").decode(),
            "data": base64.b64encode(b"p8").decode(),
            "time": "2023-11-14T22:13:28Z",
        }
    }
    without = get(stream, '{"seq":8,"no_hdr":true}')["message"]
    assert isinstance(without, dict)
    assert list(without) == ["subject", "seq", "data", "time"]


def test_empty_payload_is_left_out() -> None:
    stream = make_stream()
    stream.store.append(b"d", b"", b"", START_NS + 20 * SECOND_NS)
    assert get(stream, '{"last_by_subj":"d"}') == {
        "message": {"subject": "d", "seq": 13, "time": "2023-11-14T22:13:40Z"}
    }


@pytest.mark.parametrize(
    ("body", "sequence"),
    [
        ('{"seq":2}', 2),
        (' {"seq" : 2 } ', 2),
        ('{"seq":2,"batch":0,"max_bytes":-1}', 2),
        ('{"seq":2,"batch":-1}', 2),
        ('{"seq":2,"multi_last":["x"],"up_to_seq":1}', 2),
        ('{"last_by_subj":"a.0"}', 6),
        ('{"last_by_subj":"*.1"}', 11),
        ('{"last_by_subj":"a.>"}', 9),
        ('{"last_by_subj":"\\u0061.0"}', 6),
        ('{"next_by_subj":"a.*"}', 3),
        ('{"next_by_subj":"a.*","seq":4}', 6),
        ('{"next_by_subj":">","seq":5}', 6),
        ('{"next_by_subj":"c.0","start_time":"@3"}', 8),
        ('{"start_time":"@3"}', 3),
        ('{"start_time":"@3+"}', 4),
        ('{"start_time":"@5"}', 6),
        ('{"start_time":"2000-01-01T00:00:00Z"}', 2),
        ('{"start_time":"2000-01-01T00:00:00+02:00"}', 2),
        ('{"start_time":"0001-01-01T00:00:00Z"}', 2),
    ],
)
def test_request_finds_message(body: str, sequence: int) -> None:
    stream = make_stream()
    stream.store.delete_many([1, 5, 12])
    body = body.replace("@3+", time_of(3, 1)).replace("@3", time_of(3)).replace("@5", time_of(5))
    message = get(stream, body)["message"]
    assert isinstance(message, dict)
    assert message["seq"] == sequence


@pytest.mark.parametrize(
    "body",
    [
        '{"seq":5}',
        '{"seq":99}',
        '{"seq":18446744073709551615}',
        '{"last_by_subj":"nope"}',
        '{"last_by_subj":"a..b"}',
        '{"last_by_subj":"a.>.x"}',
        '{"last_by_subj":"\\ud800"}',
        # The stream's last message itself, which was deleted; what came before does not count.
        '{"last_by_subj":">"}',
        '{"next_by_subj":"a.*","seq":99}',
        '{"next_by_subj":"nope"}',
        '{"start_time":"2100-01-01T00:00:00Z"}',
    ],
)
def test_request_finds_no_message(body: str) -> None:
    stream = make_stream()
    stream.store.delete_many([1, 5, 12])
    assert refusal(get, stream, body) == (10037, "no message found")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        " { } ",
        "null",
        '{"seq":0}',
        '{"no_hdr":true}',
        '{"multi_last":["a.0"]}',
        '{"up_to_seq":3}',
        '{"start_time":null}',
        '{"seq":2,"last_by_subj":"a.0"}',
        '{"seq":2,"start_time":"2000-01-01T00:00:00Z"}',
        '{"last_by_subj":"x","start_time":"2000-01-01T00:00:00Z"}',
        '{"last_by_subj":"x","next_by_subj":"y"}',
        '{"seq":2,"batch":1}',
        '{"seq":2,"max_bytes":1}',
    ],
)
def test_contradictory_and_empty_get_requests_are_refused(body: str) -> None:
    assert refusal(get, make_stream(), body) == (10003, "bad request")


@pytest.mark.parametrize("call", [get, delete, purge], ids=["get", "delete", "purge"])
def test_unknown_member_is_refused(call: Any) -> None:
    stream = make_stream()
    assert refusal(call, stream, '{"seq":2,"x":1}') == (10025, 'invalid JSON: json: unknown field "x"')
    assert stream.store.messages == LAST


class DamagedStore:
    """A store whose messages cannot be read."""

    def get(self, sequence: int) -> None:
        raise RecordDamaged(f"message {sequence} does not pass its checks")


def test_damaged_message_is_none() -> None:
    stream = make_stream()
    stream.store = DamagedStore()
    assert refusal(get, stream, '{"seq":1}') == (10037, "no message found")


@pytest.mark.parametrize("is_memory", [False, True])
def test_delete_takes_one_message_out_and_commits(is_memory: bool) -> None:
    stream = make_stream(is_memory=is_memory)
    assert delete(stream, '{"seq":5,"no_erase":true}') == {"success": True}
    assert delete(stream, '{"seq":7}') == {"success": True}
    assert stream.store.get(5) is None
    assert stream.store.get(7) is None
    assert len(stream.commits) == 2
    assert refusal(delete, stream, '{"seq":5}') == (10043, "sequence 5 not found")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", (10003, "bad request")),
        ("{}", (10003, "bad request")),
        ("null", (10057, "no message found")),
        ('{"seq":0}', (10057, "no message found")),
        ('{"seq":1}', (10057, "no message found")),
        ('{"seq":4}', (10043, "sequence 4 not found")),
        ('{"seq":12}', (10043, "sequence 12 not found")),
        ('{"seq":13}', (10057, "stream store EOF")),
    ],
)
def test_delete_of_nothing_says_why_in_a_file_stream(body: str, error: tuple[int, str]) -> None:
    stream = make_stream()
    stream.store.delete_many([1, 4, 12])
    assert refusal(delete, stream, body) == error
    assert not stream.commits


@pytest.mark.parametrize("sequence", [0, 1, 4, 13])
def test_delete_of_nothing_is_one_error_in_a_memory_stream(sequence: int) -> None:
    stream = make_stream(is_memory=True)
    stream.store.delete_many([1, 4])
    assert refusal(delete, stream, f'{{"seq":{sequence},"no_erase":false}}') == (
        10043,
        f"sequence {sequence} not found",
    )


@pytest.mark.parametrize(
    ("setting", "call", "error"),
    [
        ("sealed", delete, (10109, "invalid operation on sealed stream")),
        ("deny_delete", delete, (10057, "message delete not permitted")),
        ("sealed", purge, (10109, "invalid operation on sealed stream")),
        ("deny_purge", purge, (10110, "stream purge not permitted")),
    ],
)
def test_configuration_may_forbid_it(setting: str, call: Any, error: tuple[int, str]) -> None:
    stream = make_stream(**{setting: True})
    assert refusal(call, stream, '{"seq":3}') == error
    assert stream.store.messages == LAST


@pytest.mark.parametrize(
    ("body", "deleted", "purged", "first", "last", "left"),
    [
        ("", [], 12, 13, 12, []),
        ("x", [], 12, 13, 12, []),
        ("null", [], 12, 13, 12, []),
        ("{}", [], 12, 13, 12, []),
        ('{"seq":0}', [], 12, 13, 12, []),
        ('{"seq":1}', [], 0, 1, 12, list(range(1, 13))),
        ('{"seq":1,"filter":"a.*"}', [], 0, 1, 12, list(range(1, 13))),
        ('{"seq":10}', [], 9, 10, 12, [10, 11, 12]),
        ('{"seq":10}', [1, 4, 10], 7, 11, 12, [11, 12]),
        ('{"seq":3}', [1, 2, 3, 4], 0, 5, 12, list(range(5, 13))),
        ('{"seq":12}', [12], 11, 13, 12, []),
        ('{"seq":13}', [], 12, 13, 12, []),
        ('{"seq":50}', [], 12, 50, 49, []),
        ('{"seq":50,"filter":">"}', [], 12, 50, 49, []),
        ('{"seq":50,"filter":"*.*"}', [], 12, 13, 12, []),
        ('{"keep":3}', [], 9, 10, 12, [10, 11, 12]),
        ('{"keep":3}', [11, 12], 7, 8, 12, [8, 9, 10]),
        ('{"keep":99}', [], 0, 1, 12, list(range(1, 13))),
        ('{"keep":2,"filter":">"}', [], 10, 11, 12, [11, 12]),
        ('{"filter":">","seq":11}', [], 10, 11, 12, [11, 12]),
        ('{"filter":"a.*"}', [], 4, 1, 12, [1, 2, 4, 5, 7, 8, 10, 11]),
        ('{"filter":"a.0"}', [], 2, 1, 12, [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]),
        ('{"filter":"a.*","seq":7}', [], 2, 1, 12, [1, 2, 4, 5, 7, 8, 9, 10, 11, 12]),
        ('{"filter":"a.*","keep":1}', [], 3, 1, 12, [1, 2, 4, 5, 7, 8, 10, 11, 12]),
        ('{"filter":"*.0","keep":2}', [10], 3, 1, 12, [1, 3, 5, 7, 8, 9, 11, 12]),
        ('{"filter":"nope"}', [], 0, 1, 12, list(range(1, 13))),
        ('{"filter":"a.>.x"}', [], 0, 1, 12, list(range(1, 13))),
    ],
)
def test_purge_takes_out_what_it_should(
    body: str, deleted: list[int], purged: int, first: int, last: int, left: list[int]
) -> None:
    stream = make_stream()
    stream.store.delete_many(deleted)
    assert purge(stream, body) == {"success": True, "purged": purged}
    assert (stream.store.first_sequence, stream.store.last_sequence) == (first, last)
    assert sequences(stream.store) == left
    assert stream.store.append(b"next", b"", b"", START_NS + 200 * SECOND_NS) == last + 1
    assert stream.commits


def test_purge_with_sequence_and_keep_is_refused() -> None:
    assert refusal(purge, make_stream(), '{"seq":3,"keep":3}') == (10003, "bad request")


def test_wrong_request_is_refused_without_a_stream() -> None:
    for parse in (message_api.parse_msg_get, message_api.parse_msg_delete):
        with pytest.raises(ApiError, match="bad request"):
            parse(b"{}", strict=True)
    with pytest.raises(ApiError, match="bad request"):
        message_api.parse_purge(b'{"seq":1,"keep":1}', strict=True)
    assert message_api.parse_msg_get(b'{"seq":1,"x":1}', strict=False).sequence == 1
