"""What one nats-server promises holds when the connections are spread over workers.

Connections are spread evenly by the supervisor, so the eight of a test are two on each of four workers.
nats-server runs the same tests, which shows that they ask for no more than it gives.
"""

import random
import re

import pytest
from support.wait import wait_until

pytestmark = pytest.mark.servers("midge-1", "midge-2", "midge-4", "nats-server")

CONNECTION_COUNT = 8
ROUNDS = 400


@pytest.fixture
def connections(server, dial):
    """Connections over all workers, with headers and no_responders."""
    return [dial(server, headers=True, no_responders=True) for _ in range(CONNECTION_COUNT)]


@pytest.fixture
def rng(request):
    """Random numbers that depend on the test's name alone."""
    return random.Random(request.node.name)


def test_answered_subscription_is_seen_by_every_later_publish(connections, rng):
    """SUB and PING, and once the PONG is there somebody else publishes at once."""
    for number in range(ROUNDS):
        subscriber, publisher = rng.choice(connections), rng.choice(connections)
        subscriber.send(b"SUB causal.%d %d\r\nPING\r\n" % (number, number))
        subscriber.expect(rb"PONG\r\n")
        publisher.send(b"PUB causal.%d 5\r\n%05d\r\n" % (number, number))
        subscriber.expect(rb"MSG causal\.%d %d 5\r\n%05d\r\n" % (number, number, number))
        if rng.random() < 0.5:
            subscriber.send(b"UNSUB %d\r\n" % number)


def test_answered_wildcard_and_queue_subscriptions_are_seen_too(connections, rng):
    for number in range(ROUNDS):
        subscriber, publisher = rng.choice(connections), rng.choice(connections)
        pattern, queue = rng.choice(
            ((b"cw.%d.*", b""), (b"cw.%d.>", b""), (b"cw.%d.x", b"q "), (b"cw.%d.*", b"q "))
        )
        subscriber.send(b"SUB " + pattern % number + b" " + queue + b"%d\r\nPING\r\n" % number)
        subscriber.expect(rb"PONG\r\n")
        publisher.send(b"PUB cw.%d.x 0\r\n\r\n" % number)
        subscriber.expect(rb"MSG cw\.%d\.x %d 0\r\n\r\n" % (number, number))
        subscriber.send(b"UNSUB %d\r\n" % number)


def test_subject_that_was_published_before_anybody_wanted_it_is_delivered_after(connections, rng):
    """What a worker remembers of a subject without subscribers must not outlive the first SUB."""
    for number in range(ROUNDS):
        subscriber, publisher = rng.choice(connections), rng.choice(connections)
        publisher.send(b"PUB stale.%d 0\r\n\r\n" % (number % 10))
        publisher.expect_nothing()
        subscriber.send(b"SUB stale.%d %d\r\nPING\r\n" % (number % 10, number))
        subscriber.expect(rb"PONG\r\n")
        publisher.send(b"PUB stale.%d 2\r\nhi\r\n" % (number % 10))
        subscriber.expect(rb"MSG stale\.%d %d 2\r\nhi\r\n" % (number % 10, number))
        subscriber.send(b"UNSUB %d\r\nPING\r\n" % number)
        subscriber.expect(rb"PONG\r\n")


def test_reply_finds_an_inbox_subscribed_in_the_same_write_as_the_request(connections, rng):
    """The request is what tells the responder of the inbox, so its SUB must get there no later."""
    responder = connections[0]
    responder.send(b"SUB same.write 1\r\n")
    responder.expect_nothing()
    for number in range(ROUNDS):
        requester = rng.choice(connections[1:])
        requester.send(b"SUB in.%d %d\r\nPUB same.write in.%d 0\r\n\r\n" % (number, number, number))
        responder.expect(rb"MSG same\.write 1 in\.%d 0\r\n\r\n" % number)
        responder.send(b"PUB in.%d 2\r\nok\r\n" % number)
        requester.expect(rb"MSG in\.%d %d 2\r\nok\r\n" % (number, number))
        requester.send(b"UNSUB %d\r\n" % number)


def test_word_of_a_subscription_travels_with_every_message(connections, rng):
    """A subscribes and tells B by a message, B tells C, and C publishes to A."""
    for number, connection in enumerate(connections):
        connection.send(b"SUB relay.%d relay\r\n" % number)
        connection.expect_nothing()
    for number in range(ROUNDS):
        first, second, third = rng.sample(range(CONNECTION_COUNT), 3)
        a, b, c = connections[first], connections[second], connections[third]
        a.send(b"SUB chain.%d %d\r\nPUB relay.%d 0\r\n\r\n" % (number, number, second))
        b.expect(rb"MSG relay\.%d relay 0\r\n\r\n" % second)
        b.send(b"PUB relay.%d 0\r\n\r\n" % third)
        c.expect(rb"MSG relay\.%d relay 0\r\n\r\n" % third)
        c.send(b"PUB chain.%d 0\r\n\r\n" % number)
        a.expect(rb"MSG chain\.%d %d 0\r\n\r\n" % (number, number))
        a.send(b"UNSUB %d\r\n" % number)


def test_no_message_comes_after_an_answered_unsub(connections, rng):
    for _ in range(ROUNDS):
        subscriber, publisher = rng.sample(connections, 2)
        subscriber.send(b"SUB undone 1\r\n")
        subscriber.expect_nothing()
        publisher.send(b"PUB undone 0\r\n\r\n")
        subscriber.send(b"UNSUB 1\r\nPING\r\n")
        subscriber.expect(rb"(MSG undone 1 0\r\n\r\n)?PONG\r\n")
        publisher.send(b"PUB undone 0\r\n\r\n")
        publisher.expect_nothing()
        subscriber.expect_nothing()


def test_503_exactly_when_nobody_anywhere_answers(connections, rng):
    for number, connection in enumerate(connections):
        connection.send(b"SUB answers.%d.* answers\r\n" % number)
        connection.expect_nothing()
    for number in range(ROUNDS):
        index = rng.randrange(CONNECTION_COUNT)
        requester, responder = connections[index], rng.choice(connections)
        request = b"PUB exact.%d answers.%d.x 0\r\n\r\n" % (number, index)
        requester.send(request)
        requester.expect(rb"HMSG answers\.%d\.x answers \d+ \d+\r\nNATS/1\.0 503\r\n" % index)
        requester.expect(rb"Nats-Subject: exact\.%d\r\n\r\n\r\n" % number)
        queue = rng.choice((b"", b"group "))
        responder.send(b"SUB exact.%d " % number + queue + b"%d\r\n" % number)
        responder.expect_nothing()
        requester.send(request)
        responder.expect(rb"MSG exact\.%d %d answers\.%d\.x 0\r\n\r\n" % (number, number, index))
        requester.expect_nothing()
        responder.send(b"UNSUB %d\r\n" % number)
        responder.expect_nothing()


def test_order_of_a_publisher_holds_for_each_subscriber(connections):
    """Eight publishers at once, eight subscribers, sizes that need one or several pieces on their way."""
    count = 300
    for connection in connections:
        connection.send(b"SUB ordered.> 1\r\n")
        connection.expect_nothing()
    for number in range(count):
        for index, publisher in enumerate(connections):
            filler = b"." * (7 + (number % 50 == 0) * 40_000 + (number % 7) * 100)
            payload = b"%d %d %b" % (index, number, filler)
            publisher.send(b"PUB ordered.%d %d\r\n%b\r\n" % (index, len(payload), payload))
    for subscriber in connections:
        following = [0] * CONNECTION_COUNT
        for _ in range(count * CONNECTION_COUNT):
            match = subscriber.expect(rb"MSG ordered\.(\d) 1 \d+\r\n(\d) (\d+) \.+\r\n")
            index = int(match.group(1))
            assert int(match.group(2)) == index
            assert int(match.group(3)) == following[index]
            following[index] += 1
        subscriber.expect_nothing()


def test_queue_is_uniform_over_the_members_of_all_workers(server, connections, dial, rng):
    """Five members of eight connections, several on some, so that workers have unequal numbers of them.

    2000 messages for each of 8 members: the standard deviation is 42, the bound more than 7 of them.
    """
    placement = [0, 0, 0, 1, 2, 3, 4, 4]
    for sid, index in enumerate(placement):
        connections[index].send(b"SUB even.spread group %d\r\n" % sid)
        connections[index].expect_nothing()
    total = 2000 * len(placement)
    for _ in range(total // 20):
        rng.choice(connections).send(b"PUB even.spread 0\r\n\r\n" * 20)
    counts = [0] * len(placement)

    def all_arrived():
        for connection in connections:
            connection.send(b"PING\r\n")
            answer = connection.expect(rb".*?PONG\r\n").group()
            for sid in re.findall(rb"MSG even\.spread (\d) 0\r\n", answer):
                counts[int(sid)] += 1
        return sum(counts) >= total

    wait_until(all_arrived, f"{total} messages", 30)
    assert sum(counts) == total
    assert all(1700 < count < 2300 for count in counts), counts


def test_queue_message_is_never_lost_or_doubled_while_members_come_and_go(connections, rng):
    """Two members stay; the others join and leave between and during publishing."""
    publisher, *members = connections
    for member in members[:2]:
        member.send(b"SUB moving group stay\r\n")
        member.expect_nothing()
    received = []
    published = 0

    def take(member):
        answer = member.expect(rb".*?PONG\r\n").group()
        received.extend(re.findall(rb"MSG moving \S+ 6\r\n(\d{6})\r\n", answer))

    for round_number in range(ROUNDS):
        member = rng.choice(members[2:])
        member.send(b"SUB moving group %d\r\nPING\r\n" % round_number)
        for _ in range(5):
            publisher.send(b"PUB moving 6\r\n%06d\r\n" % published)
            published += 1
        take(member)
        publisher.send(b"PUB moving 6\r\n%06d\r\n" % published)
        published += 1
        member.send(b"UNSUB %d\r\nPING\r\n" % round_number)
        take(member)

    def all_arrived():
        for member in members:
            member.send(b"PING\r\n")
            take(member)
        return len(received) >= published

    wait_until(all_arrived, f"{published} messages", 30)
    assert sorted(received) == [b"%06d" % number for number in range(published)]


def test_auto_unsubscribe_counts_across_workers(connections, rng):
    for number in range(100):
        subscriber, publisher = rng.sample(connections, 2)
        subscriber.send(b"SUB five.%d %d\r\nUNSUB %d 5\r\nPING\r\n" % (number, number, number))
        subscriber.expect(rb"PONG\r\n")
        publisher.send(b"PUB five.%d 0\r\n\r\n" % number * 9)
        publisher.expect_nothing()
        subscriber.expect(rb"(MSG five\.%d %d 0\r\n\r\n){5}" % (number, number))
    for connection in connections:
        connection.expect_nothing()


def test_largest_messages_cross_in_both_directions_at_once(connections):
    """Every connection sends 1 MiB messages to every other, so that rings in both directions are full."""
    payload = bytes(range(256)) * 4096
    for index, connection in enumerate(connections):
        connection.send(b"SUB big.%d 1\r\n" % index)
        connection.expect_nothing()
    for round_number in range(3):
        for index, connection in enumerate(connections):
            target = (index + 1 + round_number) % CONNECTION_COUNT
            connection.send(b"PUB big.%d 1048576\r\n%b\r\n" % (target, payload))
    for index, connection in enumerate(connections):
        for _ in range(3):
            match = connection.expect(rb"MSG big\.%d 1 1048576\r\n(.{1048576})\r\n" % index)
            assert match.group(1) == payload


def test_headers_and_replies_cross_unchanged(connections, rng):
    for number in range(ROUNDS):
        subscriber, publisher = rng.sample(connections, 2)
        subscriber.send(b"SUB crossing 1\r\n")
        subscriber.expect_nothing()
        payload = rng.randbytes(rng.choice((0, 1, 63, 64, 65, 1000)))
        block = b"NATS/1.0\r\nNumber: %d\r\n\r\n" % number
        sizes = b"%d %d" % (len(block), len(block) + len(payload))
        publisher.send(b"HPUB crossing to.%d %b\r\n%b%b\r\n" % (number, sizes, block, payload))
        match = subscriber.expect(rb"HMSG crossing 1 to\.%d %b\r\n(.*)\r\n\Z" % (number, sizes))
        assert match.group(1) == block + payload
        subscriber.send(b"UNSUB 1\r\n")
        subscriber.expect_nothing()
