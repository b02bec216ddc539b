"""What one data plane answers its clients, verb by verb."""

import socket
from collections.abc import Iterator

import pytest
from support.planes import Client, Mesh, Received, mesh

from workers.errors import AuthorizationViolation, CloseReason


@pytest.fixture
def planes() -> Iterator[Mesh]:
    with mesh() as planes:
        yield planes


def say(planes: Mesh, client: Client, data: bytes) -> list[bytes]:
    """Send and return the lines that are answered, messages apart."""
    client.send(data)
    planes.settle()
    return client.take_lines()


def subscribed(planes: Mesh, *lines: bytes, **options: object) -> Client:
    client = planes.connect(**options)
    assert say(planes, client, b"".join(b"SUB %b\r\n" % line for line in lines) + b"PING\r\n")[-1] == b"PONG"
    return client


def sids(client: Client) -> list[bytes]:
    return [message.sid for message in client.take_messages()]


# ---- before and after CONNECT


def test_everything_is_verbose_and_pedantic_before_connect(planes: Mesh) -> None:
    client = planes.connect(handshake=False)
    assert say(planes, client, b"SUB foo 1\r\nPUB foo.* 2\r\nhi\r\nPING\r\n") == [
        b"INFO {} ",
        b"+OK",
        b"-ERR 'Invalid Publish Subject'",
        b"+OK",
        b"PONG",
    ]


def test_connect_sets_options_and_first_pong_is_followed_by_info(planes: Mesh) -> None:
    client = planes.connect(handshake=False)
    lines = say(planes, client, b'CONNECT {"verbose":true,"protocol":1}\r\nPING\r\nPING\r\n')
    assert lines == [b"INFO {} ", b"+OK", b"PONG", b'INFO {"connect_info":true} ', b"PONG"]


def test_client_of_protocol_0_gets_no_second_info(planes: Mesh) -> None:
    client = planes.connect()
    assert say(planes, client, b"PING\r\n") == [b"PONG"]


def test_second_connect_drops_subscriptions_and_options(planes: Mesh) -> None:
    client = subscribed(planes, b"foo 1", verbose=True)
    assert say(planes, client, b"CONNECT {}\r\nPUB foo 0\r\n\r\nSUB foo 1\r\nPING\r\n") == [b"PONG"]
    assert client.take_messages() == []
    assert planes.counter("subscriptions") == 1


def test_nothing_but_connect_is_accepted_when_credentials_are_required(planes: Mesh) -> None:
    client = planes.connect(auth_required=True, handshake=False)
    assert say(planes, client, b"PING\r\nCONNECT {}\r\n")[1:] == [b"-ERR 'Authorization Violation'"]
    assert client.is_closed
    assert planes.hosts[0].policy.reasons == {1: CloseReason.AUTHENTICATION_FAILURE}
    assert planes.counter("auth_errors") == 1


def test_refused_connect_is_answered_and_closed(planes: Mesh) -> None:
    planes.hosts[0].policy.refusal = AuthorizationViolation()
    client = planes.connect(handshake=False)
    assert say(planes, client, b"CONNECT {}\r\nPING\r\n")[1:] == [b"-ERR 'Authorization Violation'"]
    assert client.is_closed


def test_undecided_connect_holds_the_client_until_it_is_allowed(planes: Mesh) -> None:
    policy = planes.hosts[0].policy
    policy.is_undecided = True
    client = planes.connect(auth_required=True, handshake=False)
    assert say(planes, client, b"CONNECT {}\r\nSUB foo 1\r\nPUB foo 2\r\nhi\r\nPING\r\n") == [b"INFO {} "]
    planes.hosts[0].plane.allow(client.handle, 0)
    planes.hosts[0].plane.run()
    planes.settle()
    assert client.take_lines() == [b"PONG"]
    assert sids(client) == [b"1"]


def test_undecided_connect_may_be_refused(planes: Mesh) -> None:
    planes.hosts[0].policy.is_undecided = True
    client = planes.connect(handshake=False)
    say(planes, client, b"CONNECT {}\r\nPING\r\n")
    planes.hosts[0].plane.refuse(client.handle, AuthorizationViolation())
    planes.hosts[0].plane.run()
    planes.settle()
    assert client.take_lines() == [b"-ERR 'Authorization Violation'"]
    assert client.is_closed


def test_client_that_hangs_up_while_undecided_is_forgotten_when_decided(planes: Mesh) -> None:
    planes.hosts[0].policy.is_undecided = True
    client = planes.connect(handshake=False)
    say(planes, client, b"CONNECT {}\r\n")
    client.close()
    planes.settle()
    planes.hosts[0].plane.allow(client.handle, 0)
    planes.hosts[0].plane.run()
    planes.settle()
    assert planes.counter("connections") == 0


def test_error_of_ours_closes_that_connection_alone() -> None:
    with mesh() as planes:
        other = planes.connect()
        client = planes.connect(handshake=False)
        planes.hosts[0].policy.refusal = RuntimeError("ours")
        say(planes, client, b"CONNECT {}\r\n")
        assert client.is_closed
        assert say(planes, other, b"PING\r\n") == [b"PONG"]
        assert len(planes.hosts[0].policy.errors) == 1
        planes.hosts[0].policy.errors.clear()


# ---- subscribing


def test_sid_in_use_is_left_as_it_is(planes: Mesh) -> None:
    client = subscribed(planes, b"foo 1", b"bar 1")
    say(planes, client, b"PUB bar 0\r\n\r\nPUB foo 0\r\n\r\n")
    assert [message.subject for message in client.take_messages()] == [b"foo"]


@pytest.mark.parametrize("subject", [b"foo..bar", b".foo", b"foo.", b">.foo", b"foo.>.bar"])
def test_invalid_subject_is_told_and_nothing_closed(planes: Mesh, subject: bytes) -> None:
    client = planes.connect(verbose=True)
    assert say(planes, client, b"SUB %b 1\r\nPING\r\n" % subject) == [b"-ERR 'Invalid Subject'", b"PONG"]


def test_reserved_queue_name_is_refused(planes: Mesh) -> None:
    client = planes.connect()
    assert say(planes, client, b"SUB foo _sys_ 1\r\n") == [
        b'-ERR \'Permissions Violation for Subscription to "foo" using queue "_sys_"\''
    ]


def test_subscription_limits_are_told_and_nothing_closed() -> None:
    with mesh(max_subscriptions=2, max_sub_tokens=3) as planes:
        client = planes.connect()
        assert say(planes, client, b"SUB a.b.c.d 1\r\n") == [
            b"-ERR 'Permissions Violation for Subscription to \"a.b.c.d\", too many tokens'"
        ]
        assert say(planes, client, b"SUB a.b.c 1\r\nSUB b 2\r\nSUB c 3\r\nPING\r\n") == [
            b"-ERR 'maximum subscriptions exceeded'",
            b"PONG",
        ]
        say(planes, client, b"UNSUB 1\r\nSUB c 3\r\nPUB c 0\r\n\r\n")
        assert sids(client) == [b"3"]


def test_many_sids_of_one_client_are_kept_apart(planes: Mesh) -> None:
    count = 3000
    client = subscribed(planes, *(b"s.%d sid-%d" % (number, number) for number in range(count)))
    say(planes, client, b"".join(b"UNSUB sid-%d\r\n" % number for number in range(0, count, 2)))
    say(planes, client, b"".join(b"PUB s.%d 0\r\n\r\n" % number for number in range(count)))
    assert sids(client) == [b"sid-%d" % number for number in range(1, count, 2)]


# ---- auto-unsubscribe


def test_unsub_with_a_maximum_ends_after_so_many(planes: Mesh) -> None:
    client = subscribed(planes, b"foo 1")
    say(planes, client, b"UNSUB 1 3\r\n" + b"PUB foo 0\r\n\r\n" * 5)
    assert sids(client) == [b"1"] * 3
    assert planes.counter("subscriptions") == 0


def test_maximum_counts_from_the_sub(planes: Mesh) -> None:
    client = subscribed(planes, b"foo 1")
    publish = b"PUB foo 0\r\n\r\n"
    say(planes, client, publish * 2 + b"UNSUB 1 3\r\n" + publish * 5)
    assert len(sids(client)) == 3


@pytest.mark.parametrize("maximum", [b"1", b"2", b"0", b"-1", b"x"])
def test_maximum_that_is_reached_or_no_number_ends_at_once(planes: Mesh, maximum: bytes) -> None:
    client = subscribed(planes, b"foo 1")
    publish = b"PUB foo 0\r\n\r\n"
    say(planes, client, publish * 2 + b"UNSUB 1 %b\r\n" % maximum + publish)
    assert len(sids(client)) == 2


def test_unsub_of_an_unknown_sid_is_ok(planes: Mesh) -> None:
    client = planes.connect(verbose=True)
    assert say(planes, client, b"UNSUB 7\r\nUNSUB 7 5\r\n") == [b"+OK", b"+OK"]


def test_sid_may_be_used_again_once_it_is_spent(planes: Mesh) -> None:
    client = subscribed(planes, b"foo 1")
    say(planes, client, b"UNSUB 1 1\r\nPUB foo 0\r\n\r\nSUB bar 1\r\nPUB bar 0\r\n\r\n")
    assert [message.subject for message in client.take_messages()] == [b"foo", b"bar"]


def test_queue_member_that_is_spent_leaves_its_turn_to_the_others(planes: Mesh) -> None:
    client = subscribed(planes, b"foo q 1", b"foo q 2")
    say(planes, client, b"UNSUB 1 1\r\n" + b"PUB foo 0\r\n\r\n" * 100)
    received = sids(client)
    assert len(received) == 100
    assert received.count(b"1") == 1


def test_two_subscriptions_spent_by_one_message(planes: Mesh) -> None:
    client = subscribed(planes, b"foo 1", b"foo 2", b"> 3")
    say(planes, client, b"UNSUB 1 1\r\nUNSUB 2 1\r\nUNSUB 3 1\r\n" + b"PUB foo 0\r\n\r\n" * 2)
    assert sorted(sids(client)) == [b"1", b"2", b"3"]


# ---- delivering


def test_message_is_what_was_published(planes: Mesh) -> None:
    client = subscribed(planes, b"foo 1", headers=True)
    say(planes, client, b"PUB foo 2\r\nhi\r\nPUB foo bar 02\r\nhi\r\nHPUB foo r 4 6\r\nabcdhi\r\n")
    assert client.take_messages() == [
        Received(b"foo", b"1", b"", None, b"hi"),
        Received(b"foo", b"1", b"bar", None, b"hi"),
        Received(b"foo", b"1", b"r", b"abcd", b"hi"),
    ]


@pytest.mark.parametrize("reply", [b"", b"reply "])
@pytest.mark.parametrize("payload", [b"", b"hi", b"x" * 1000])
def test_headers_are_stripped_for_who_cannot_take_them(planes: Mesh, reply: bytes, payload: bytes) -> None:
    receiver = subscribed(planes, b"foo 1")
    publisher = planes.connect(headers=True)
    headers = b"NATS/1.0\r\n\r\n"
    sizes = b"%d %d" % (len(headers), len(headers) + len(payload))
    say(planes, publisher, b"HPUB foo " + reply + sizes + b"\r\n" + headers + payload + b"\r\n")
    assert receiver.take_messages() == [Received(b"foo", b"1", reply.strip(), None, payload)]


def test_echo_off_keeps_own_messages_away(planes: Mesh) -> None:
    silent = subscribed(planes, b"foo 1", b"foo q 2", echo=False)
    other = subscribed(planes, b"foo 1")
    say(planes, silent, b"PUB foo 0\r\n\r\n")
    assert silent.take_messages() == []
    assert sids(other) == [b"1"]
    say(planes, other, b"PUB foo 0\r\n\r\n")
    assert sorted(sids(silent)) == [b"1", b"2"]


def test_each_queue_name_gets_one_copy_over_all_patterns(planes: Mesh) -> None:
    client = subscribed(planes, b"foo q 1", b"* q 2", b"> q 3", b"foo r 4", b"foo 5")
    say(planes, client, b"PUB foo 0\r\n\r\n" * 300)
    received = sids(client)
    assert received.count(b"5") == received.count(b"4") == 300
    in_q = [received.count(sid) for sid in (b"1", b"2", b"3")]
    assert sum(in_q) == 300
    assert min(in_q) > 50, "each gets about a hundred"


def test_closed_client_is_not_delivered_to(planes: Mesh) -> None:
    gone = subscribed(planes, b"foo 1", b"foo q 2")
    stays = subscribed(planes, b"foo q 1")
    gone.close()
    say(planes, stays, b"PUB foo 0\r\n\r\n" * 50)
    assert len(sids(stays)) == 50


# ---- no responders


def status_of(planes: Mesh, client: Client, subject: bytes) -> list[bytes | None]:
    say(planes, client, b"PUB %b inbox 0\r\n\r\n" % subject)
    return [message.headers for message in client.take_messages()]


NO_RESPONDERS = b"NATS/1.0 503\r\nNats-Subject: help\r\n\r\n"


def test_request_without_responders_is_answered_503(planes: Mesh) -> None:
    client = subscribed(planes, b"inbox 1", headers=True, no_responders=True)
    assert status_of(planes, client, b"help") == [NO_RESPONDERS]


def test_queue_subscription_to_the_reply_gets_no_503(planes: Mesh) -> None:
    client = subscribed(planes, b"inbox q 1", headers=True, no_responders=True)
    assert status_of(planes, client, b"help") == []


def test_503_counts_as_a_delivery(planes: Mesh) -> None:
    client = subscribed(planes, b"inbox 1", headers=True, no_responders=True)
    say(planes, client, b"UNSUB 1 1\r\n")
    assert status_of(planes, client, b"help") == [NO_RESPONDERS]
    assert status_of(planes, client, b"help") == []


def test_own_subscription_without_echo_is_no_responder(planes: Mesh) -> None:
    client = subscribed(planes, b"*  1", headers=True, no_responders=True, echo=False)
    assert status_of(planes, client, b"help") == [NO_RESPONDERS]


def test_without_the_option_or_a_reply_there_is_no_503(planes: Mesh) -> None:
    client = subscribed(planes, b"inbox 1", headers=True)
    assert status_of(planes, client, b"help") == []
    asking = subscribed(planes, b"> 1", headers=True, no_responders=True, echo=False)
    assert say(planes, asking, b"PUB help 0\r\n\r\n") == []
    assert asking.take_messages() == []


# ---- errors of clients


@pytest.mark.parametrize(
    ("data", "lines", "reason"),
    [
        (b"NONSENSE\r\n", [b"-ERR 'Unknown Protocol Operation'"], CloseReason.PARSE_ERROR),
        (b"PUB foo\r\n", [], CloseReason.PROTOCOL_VIOLATION),
        (b"PUB foo 10000000\r\n", [b"-ERR 'Maximum Payload Violation'"], 12),
        (b"SUB " + b"x" * 5000 + b" 1\r\n", [b"-ERR 'maximum control line exceeded'"], 13),
        (b"HPUB foo 1 1\r\nx\r\n", [], CloseReason.PROTOCOL_VIOLATION),
        (b"-ERR 'no more'\r\n", [], CloseReason.CLIENT_CLOSED),
    ],
)
def test_errors_close_after_what_was_answered_before(
    planes: Mesh, data: bytes, lines: list[bytes], reason: int
) -> None:
    client = planes.connect()
    assert say(planes, client, b"PING\r\n" + data + b"PING\r\n") == [b"PONG", *lines]
    assert client.is_closed
    assert planes.hosts[0].policy.reasons == {client.client_id: reason}


def test_complaint_of_a_client_is_passed_on(planes: Mesh) -> None:
    say(planes, planes.connect(), b"-ERR 'no more'\r\n")
    assert planes.hosts[0].policy.client_errors == [b"'no more'"]


def test_trace_shows_operations_without_payloads() -> None:
    with mesh(log_trace=True) as planes:
        client = planes.connect()
        say(planes, client, b"PUB foo 6\r\nsecret\r\nSUB foo 1\r\nPING\r\n")
        assert planes.hosts[0].policy.traced[1:] == [b"PUB foo 6\r\n", b"SUB foo 1\r\n", b"PING\r\n"]


def test_input_in_single_bytes_is_the_same(planes: Mesh) -> None:
    client = planes.connect(verbose=True, headers=True)
    for byte in b"SUB foo 1\r\nPUB  foo\treply 2\r\nhi\r\nHPUB foo 4 6\r\nabcdhi\r\nPING and more\r\n":
        client.send(bytes([byte]))
        planes.settle()
    assert client.take_lines() == [b"+OK", b"+OK", b"+OK", b"PONG"]
    assert [message.payload for message in client.take_messages()] == [b"hi", b"hi"]


def test_last_words_before_hanging_up_are_heard(planes: Mesh) -> None:
    receiver = subscribed(planes, b"foo 1")
    client = planes.connect()
    client.send(b"PUB foo 3\r\nbye\r\n" * 10_000)
    client.close()
    planes.settle()
    assert len(receiver.take_messages()) == 10_000


def test_stats_count_both_directions(planes: Mesh) -> None:
    client = subscribed(planes, b"foo 1", b"foo 2", headers=True)
    say(planes, client, b"PUB foo 5\r\nhello\r\nHPUB foo 4 6\r\nabcdhi\r\n")
    stats = planes.hosts[0].plane.stats(client.handle)
    assert (stats["in_msgs"], stats["in_bytes"]) == (2, 11)
    assert (stats["out_msgs"], stats["out_bytes"]) == (4, 22)
    assert (stats["subscriptions"], stats["pending_bytes"]) == (2, 0)
    assert planes.counter("in_msgs") == 2
    assert planes.counter("out_bytes") == 22


def test_socket_of_a_closed_client_is_watched_no_more(planes: Mesh) -> None:
    """The supervisor may hold its copy of the socket a little longer, so that close() does not end it."""
    host = planes.hosts[0]
    ours, theirs = socket.socketpair()
    with ours, theirs.dup():
        host.plane.open_client(theirs.detach(), 99, False, b"INFO {} \r\n")
        ours.send(b"BOGUS\r\n")
        planes.settle()
        assert host.policy.reasons[99] == CloseReason.PARSE_ERROR
        ours.send(b"PING\r\n")
        assert not host.is_busy
