"""Workers among themselves: interest, full rings, members that leave, workers that start anew."""

import faulthandler
import os
import signal
from collections.abc import Callable

import pytest
from support.planes import Client, Mesh, mesh

from shm.ring import RingProducer
from shm.wake import WakeWords


def subscribe(planes: Mesh, client: Client, *lines: bytes) -> None:
    """Subscribe and wait for the PONG."""
    client.send(b"".join(b"SUB %b\r\n" % line for line in lines) + b"PING\r\n")
    planes.settle()
    assert client.take_lines() == [b"PONG"]


def payloads(client: Client) -> list[bytes]:
    return [message.payload for message in client.take_messages()]


def test_message_crosses_once_for_all_plain_subscriptions() -> None:
    with mesh(2) as planes:
        one, two, publisher = planes.connect(1), planes.connect(1), planes.connect(0)
        subscribe(planes, one, b"foo 1", b"foo.> 2", b"* 3")
        subscribe(planes, two, b"foo 1")
        publisher.send(b"PUB foo reply 2\r\nhi\r\n")
        planes.settle()
        assert [message.sid for message in one.take_messages()] == [b"1", b"3"]
        assert [message.reply for message in two.take_messages()] == [b"reply"]
        assert planes.counter("ring_out_frames", 0) == planes.counter("ring_in_frames", 1) == 1


def test_headers_cross_and_are_stripped_for_who_cannot_take_them() -> None:
    with mesh(2) as planes:
        with_headers, without = planes.connect(1, headers=True), planes.connect(1)
        publisher = planes.connect(0, headers=True)
        subscribe(planes, with_headers, b"foo 1")
        subscribe(planes, without, b"foo 1")
        publisher.send(b"HPUB foo 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\nPING\r\n")
        planes.settle()
        assert publisher.take_lines() == [b"PONG"]
        (full,) = with_headers.take_messages()
        assert (full.headers, full.payload) == (b"NATS/1.0\r\nA: b\r\n\r\n", b"hi")
        (stripped,) = without.take_messages()
        assert (stripped.headers, stripped.payload) == (None, b"hi")


@pytest.mark.parametrize("size", [0, 1, 200, 16 << 10, 100_000, 1 << 20])
def test_message_of_any_size_crosses_tiny_rings(size: int) -> None:
    with mesh(2, data_ring_bytes=1024) as planes:
        subscriber, publisher = planes.connect(1), planes.connect(0)
        subscribe(planes, subscriber, b"foo 1")
        body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
        publisher.send(b"PUB foo %d\r\n%b\r\n" % (size, body) + b"PUB foo 4\r\nnext\r\nPING\r\n")
        planes.settle()
        assert publisher.take_lines() == [b"PONG"]
        assert payloads(subscriber) == [body, b"next"]


def test_two_workers_full_towards_each_other_lose_nothing() -> None:
    with mesh(2, data_ring_bytes=1024) as planes:
        clients = [planes.connect(0), planes.connect(1)]
        for client in clients:
            subscribe(planes, client, b"foo 1")
        sent = [[b"%d %d " % (index, number) + b"." * 100 for number in range(2000)] for index in range(2)]
        for client, bodies in zip(clients, sent, strict=True):
            client.send(b"".join(b"PUB foo %d\r\n%b\r\n" % (len(body), body) for body in bodies))
        planes.settle()
        for client in clients:
            received = payloads(client)
            for index in range(2):
                assert [body for body in received if body.startswith(b"%d " % index)] == sent[index]
        assert planes.counter("ring_full", 0) > 0


def test_full_ring_holds_back_who_fills_it_and_nobody_else() -> None:
    with mesh(2, data_ring_bytes=1024) as planes:
        far, near = planes.connect(1), planes.connect(0)
        flooding, other = planes.connect(0), planes.connect(0)
        subscribe(planes, far, b"far 1")
        subscribe(planes, near, b"near 1")
        flooding.send(b"PUB far 100\r\n%b\r\n" % (b"." * 100) * 100 + b"PING\r\n")
        other.send(b"PUB near 1\r\nx\r\nPING\r\n")
        while planes.hosts[0].step():  # worker 1 does not run
            pass
        planes.settle(near, other)
        assert other.take_lines() == [b"PONG"]
        assert payloads(near) == [b"x"]
        planes.settle()
        assert len(far.take_messages()) == 100
        assert flooding.take_lines() == [b"PONG"]


def test_full_ring_does_not_hold_back_other_clients_while_the_peer_stands_still() -> None:
    with mesh(2, data_ring_bytes=1024) as planes:
        far, near = planes.connect(1), planes.connect(0)
        flooding, other = planes.connect(0), planes.connect(0)
        subscribe(planes, far, b"far 1")
        subscribe(planes, near, b"near 1")
        flooding.send(b"PUB far 100\r\n%b\r\n" % (b"." * 100) * 100 + b"PING\r\n")
        while planes.hosts[0].step():
            pass
        flooding.receive()
        assert flooding.take_lines() == []
        other.send(b"PUB near 1\r\nx\r\nPING\r\n")
        while planes.hosts[0].step():
            pass
        near.receive()
        other.receive()
        assert other.take_lines() == [b"PONG"]
        assert payloads(near) == [b"x"]


def test_pong_waits_until_all_workers_can_know_the_subscription() -> None:
    """More interest than the control ring holds, told to a worker that does not run."""
    with mesh(2, control_ring_bytes=256) as planes:
        subscriber, publisher = planes.connect(0), planes.connect(1)
        subscriber.send(
            b"".join(b"SUB s.%d %d\r\n" % (number, number) for number in range(100)) + b"PING\r\n"
        )
        while planes.hosts[0].step():
            pass
        subscriber.receive()
        assert subscriber.take_lines() == []
        planes.settle()
        assert subscriber.take_lines() == [b"PONG"]
        publisher.send(b"".join(b"PUB s.%d 0\r\n\r\n" % number for number in range(100)))
        planes.settle()
        assert len(subscriber.take_messages()) == 100


def test_ok_of_a_verbose_client_waits_likewise() -> None:
    with mesh(2, control_ring_bytes=256) as planes:
        subscriber = planes.connect(0, verbose=True)
        subscriber.send(b"".join(b"SUB s.%d %d\r\n" % (number, number) for number in range(100)))
        while planes.hosts[0].step():
            pass
        subscriber.receive()
        assert 0 < len(subscriber.take_lines()) < 50
        planes.settle()
        assert set(subscriber.take_lines()) == {b"+OK"}


def test_interest_that_came_in_the_middle_of_a_round_is_seen_by_what_is_read_after_it() -> None:
    """While worker 0 handles one client, worker 1 confirms a subscription; then the other publishes."""
    with mesh(2, log_trace=True) as planes:
        pair = [planes.connect(0), planes.connect(0)]
        subscriber = planes.connect(1)
        heard: list[int] = []

        def interrupt(client_id: int, line: bytes) -> None:
            heard.append(client_id)
            if len(heard) == 1:
                subscriber.send(b"SUB foo 1\r\nPING\r\n")
                planes.hosts[1].step()
                subscriber.receive()
                assert subscriber.take_lines() == [b"PONG"]
                (other,) = (client for client in pair if client.client_id != client_id)
                other.send(b"PUB foo 2\r\nhi\r\n")

        planes.hosts[0].policy.trace = interrupt  # type: ignore[method-assign]
        for client in pair:
            client.send(b"PING\r\n")
        planes.settle()
        assert len(heard) == 3
        assert payloads(subscriber) == [b"hi"]


def test_pong_written_early_does_not_overtake_interest() -> None:
    """Output above half a MiB is written before the round ends; a PONG in it must not be early."""
    with mesh(2) as planes:
        subscriber, publisher = planes.connect(0), planes.connect(1)
        policy = planes.hosts[0].policy
        seen: list[bytes] = []

        def look(text: bytes) -> None:
            subscriber.receive(100)
            seen.extend(subscriber.take_lines())
            publisher.send(b"PUB foo 4\r\nlate\r\n")
            planes.hosts[1].step()

        policy.client_info = look  # type: ignore[method-assign]
        subscriber.send(b"SUB mine 1\r\n")
        planes.settle()
        echo = b"PUB mine 8\r\n12345678\r\n"
        subscriber.send(b"SUB foo 2\r\nPING\r\n" + echo * 10_000 + b"INFO {}\r\n")
        planes.settle()
        assert seen == [b"PONG"], "the output was not written early: the test shows nothing"
        assert b"late" in payloads(subscriber)


# ---- queues ------------------------------------------------------------------------------------------------


def test_queue_member_is_picked_on_any_worker() -> None:
    with mesh(3) as planes:
        members = [planes.connect(worker) for worker in (0, 1, 2, 2)]
        for member in members:
            subscribe(planes, member, b"foo q 1")
        publisher = planes.connect(0)
        publisher.send(b"PUB foo 0\r\n\r\n" * 4000)
        planes.settle()
        counts = [len(member.take_messages()) for member in members]
        assert sum(counts) == 4000
        assert min(counts) > 700, "each of four members gets about a thousand"


def test_message_for_a_member_that_left_goes_to_another() -> None:
    with mesh(3) as planes:
        leaver, stayer, publisher = planes.connect(1), planes.connect(2), planes.connect(0)
        subscribe(planes, leaver, b"foo q 1")
        subscribe(planes, stayer, b"foo q 1")
        publisher.send(b"PUB foo 0\r\n\r\n" * 100)
        planes.hosts[0].step()
        leaver.send(b"UNSUB 1\r\nPING\r\n")
        # Worker 1 has the UNSUB before it looks at its rings again: it is told of both at once.
        planes.settle()
        assert len(leaver.take_messages()) + len(stayer.take_messages()) == 100


def test_message_for_a_queue_nobody_is_left_in_is_dropped() -> None:
    with mesh(2) as planes:
        leaver, publisher = planes.connect(1), planes.connect(0)
        subscribe(planes, leaver, b"foo q 1")
        leaver.send(b"UNSUB 1\r\n")
        publisher.send(b"PUB foo 0\r\n\r\nPING\r\n")
        planes.settle()
        assert publisher.take_lines() == [b"PONG"]


def test_queue_name_over_several_subjects_is_one_group_across_workers() -> None:
    with mesh(2) as planes:
        members = [planes.connect(worker) for worker in (0, 1)]
        subscribe(planes, members[0], b"foo.* q 1", b"foo.bar q 2")
        subscribe(planes, members[1], b"foo.> q 1", b"> other 2")
        planes.connect(0).send(b"PUB foo.bar 0\r\n\r\n" * 300)
        planes.settle()
        sids = [[message.sid for message in member.take_messages()] for member in members]
        in_q = [len(sids[0]), sids[1].count(b"1")]
        assert sum(in_q) == 300
        assert min(in_q) > 50
        assert sids[1].count(b"2") == 300


# ---- no responders across workers --------------------------------------------------------------------------


def test_interest_of_another_worker_is_a_responder() -> None:
    with mesh(2) as planes:
        asking, answering = planes.connect(0, headers=True, no_responders=True), planes.connect(1)
        subscribe(planes, asking, b"inbox 1")
        request = b"PUB help inbox 0\r\n\r\n"
        asking.send(request)
        planes.settle()
        (status,) = asking.take_messages()
        assert status.headers == b"NATS/1.0 503\r\nNats-Subject: help\r\n\r\n"
        subscribe(planes, answering, b"help 1")
        asking.send(request)
        planes.settle()
        assert asking.take_messages() == []
        assert [message.reply for message in answering.take_messages()] == [b"inbox"]


# ---- workers that die and start ----------------------------------------------------------------------------


def test_started_worker_is_told_all_interest() -> None:
    """More than one round of telling, and more than the control ring holds."""
    with mesh(2, control_ring_bytes=65536) as planes:
        subscriber = planes.connect(0)
        for first in range(0, 10_000, 1000):
            subscriber.send(
                b"".join(b"SUB s.%d %d\r\n" % (number, number) for number in range(first, first + 1000))
            )
            planes.settle()
        subscribe(planes, subscriber, b"q.* group q1", b"q.* group q2", b"w.> w")
        planes.kill(1)
        planes.restart(1)
        planes.settle()
        assert planes.hosts[1].plane.is_synced
        publisher = planes.connect(1)
        publisher.send(b"PUB s.0 0\r\n\r\nPUB s.9999 0\r\n\r\nPUB q.x 0\r\n\r\nPUB w.x 0\r\n\r\n")
        planes.settle()
        sids = [message.sid for message in subscriber.take_messages()]
        assert sids[:2] == [b"0", b"9999"]
        assert sids[2] in (b"q1", b"q2")
        assert sids[3:] == [b"w"]


def test_interest_of_a_dead_worker_is_forgotten() -> None:
    with mesh(2) as planes:
        gone = planes.connect(1)
        subscribe(planes, gone, b"foo 1", b"foo.* 2", b"bar q 3", b"*.> q 4")
        asking = planes.connect(0, headers=True, no_responders=True)
        subscribe(planes, asking, b"inbox 1")
        planes.kill(1)
        asking.send(b"PUB foo inbox 0\r\n\r\nPUB bar inbox 0\r\n\r\nPUB foo.x inbox 0\r\n\r\n")
        planes.settle()
        assert len(asking.take_messages()) == 3
        assert planes.counter("ring_out_frames", 0) == 0


def test_unsubscribing_while_a_worker_is_being_told_leaves_no_interest_behind() -> None:
    with mesh(2, control_ring_bytes=256) as planes:
        subscriber = planes.connect(0)
        subscriber.send(b"".join(b"SUB s.%d %d\r\n" % (number, number) for number in range(100)))
        planes.settle()
        planes.kill(1)
        planes.restart(1)
        planes.hosts[0].step()
        subscriber.send(b"".join(b"UNSUB %d\r\n" % number for number in range(0, 100, 2)))
        planes.settle()
        asking = planes.connect(1, headers=True, no_responders=True)
        subscribe(planes, asking, b"inbox 1")
        asking.send(b"".join(b"PUB s.%d inbox 0\r\n\r\n" % number for number in range(100)))
        planes.settle()
        assert len(asking.take_messages()) == 50
        assert len(subscriber.take_messages()) == 50


def test_message_half_way_through_when_its_worker_dies_is_dropped() -> None:
    """The fragments that came are forgotten with the worker; the next one's messages are whole."""
    with mesh(2, data_ring_bytes=1024) as planes:
        subscriber, doomed = planes.connect(0), planes.connect(1)
        subscribe(planes, subscriber, b"foo 1")
        doomed.send(b"PUB foo 5000\r\n%b\r\n" % (b"." * 5000))
        planes.hosts[1].step()
        planes.hosts[0].step()
        planes.kill(1)
        planes.restart(1)
        planes.settle()
        assert subscriber.take_messages() == []
        planes.connect(1).send(b"PUB foo 3000\r\n%b\r\n" % (b"x" * 3000))
        planes.settle()
        assert payloads(subscriber) == [b"x" * 3000]


# ---- frames that make no sense -----------------------------------------------------------------------------


def ends_the_process(scenario: Callable[[], None]) -> bool:
    """Return whether a scenario, run in a process of its own, is ended by abort()."""
    process_id = os.fork()
    if process_id == 0:
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        scenario()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]) == -signal.SIGABRT


def write_frame(planes: Mesh, ring_address: int, body: bytes) -> None:
    """Put a frame into an empty ring as a broken worker might, and let worker 0 look at it."""
    broken = RingProducer(ring_address, 2)
    assert broken.try_write(body)
    broken.publish()
    WakeWords(planes.region.wake_address(0)).announce_control()
    planes.hosts[0].plane.run()


def with_fresh_rings() -> Mesh:
    """Return two workers, of which the second is dead and the rings between them are of epoch 2 and empty."""
    planes = Mesh(2)
    planes.kill(1)
    planes.region.reset_rings(1)
    planes.hosts[0].plane.attach_peer(1, 2, 2)
    return planes


NONSENSE = [
    b"\x63 no frame of ours" * 3,
    b"",
    b"\x01\x02" + bytes(40),
    b"\x02\x01" + bytes(40),
    b"\x01\x01" + bytes(30),
]


@pytest.mark.parametrize("body", NONSENSE)
def test_message_frame_that_makes_no_sense_ends_the_worker(body: bytes) -> None:
    def scenario() -> None:
        planes = with_fresh_rings()
        write_frame(planes, planes.region.data_ring_address(1, 0), body)

    assert ends_the_process(scenario)


@pytest.mark.parametrize("body", NONSENSE)
def test_control_frame_that_makes_no_sense_ends_the_worker(body: bytes) -> None:
    def scenario() -> None:
        planes = with_fresh_rings()
        write_frame(planes, planes.region.control_ring_address(1, 0), body)

    assert ends_the_process(scenario)


# ---- clients that wait for two things ----------------------------------------------------------------------


def test_client_that_waits_for_a_peer_is_not_read_before_its_credentials_are_checked() -> None:
    """A second CONNECT ends more subscriptions than the control ring takes, and is not decided at once."""
    with mesh(2, control_ring_bytes=256) as planes:
        client, host = planes.connect(0), planes.hosts[0]
        subscribe(planes, client, *(b"s.%d %d" % (number, number) for number in range(100)))
        host.policy.is_undecided = True
        client.send(b"CONNECT {}\r\nPING\r\n")
        host.step()
        host.plane.run()
        planes.settle()
        assert client.take_lines() == []
        host.plane.allow(client.handle, 0)
        host.plane.run()
        planes.settle()
        assert client.take_lines() == [b"PONG"]


def test_client_that_waits_for_a_peer_may_be_allowed_meanwhile() -> None:
    with mesh(2, control_ring_bytes=256) as planes:
        client, host = planes.connect(0), planes.hosts[0]
        subscribe(planes, client, *(b"s.%d %d" % (number, number) for number in range(100)))
        host.policy.is_undecided = True
        client.send(b"CONNECT {}\r\n")
        host.step()
        host.plane.allow(client.handle, 0)
        client.send(b"".join(b"SUB t.%d %d\r\n" % (number, number) for number in range(100)) + b"PING\r\n")
        host.plane.run()
        planes.settle()
        assert client.take_lines() == [b"PONG"]
        assert planes.counter("subscriptions", 0) == 100
