"""A worker that dies takes its own connections with it and nothing else.

`pytest tests/faults/test_worker_death.py --kill-rounds 300` kills longer.
"""

import os
import random
import signal
import threading

import nats
import pytest
from support.fleet import by_worker, holdings, serving_worker, wait_for_workers
from support.nats_py import settle
from support.wait import wait_until, wait_until_async

BATCH_MESSAGES = 40
FLOW_COUNT = 4
RECEIVE_ATTEMPT_S = 0.25
RECEIVE_ATTEMPTS = 80


def kill(pid):
    os.kill(pid, signal.SIGKILL)


@pytest.mark.servers("midge-2", "midge-4")
def test_only_the_connections_of_the_dead_worker_end(start, dial):
    server = start()
    clients = [dial(server) for _ in range(2 * server.worker_count)]
    served = by_worker(server, clients)
    assert all(served.values()), "connections were not spread"
    victim, *survivors = served
    kill(victim)
    for client in served[victim]:
        client.read_to_end()
    rest = [client for pid in survivors for client in served[pid]]
    for number, client in enumerate(rest):
        client.send(b"SUB rest.%d 1\r\n" % number)
        client.expect_nothing()
    for number, client in enumerate(rest):
        client.send(b"PUB rest.%d 2\r\nhi\r\n" % ((number + 1) % len(rest)))
    for number, client in enumerate(rest):
        client.expect(rb"MSG rest\.%d 1 2\r\nhi\r\n" % number)


@pytest.mark.servers("midge-1", "midge-2", "midge-4")
def test_dead_worker_is_replaced_and_knows_everybodys_interest(start, dial):
    server = start()
    veterans = [dial(server) for _ in range(2 * server.worker_count)]
    served = by_worker(server, veterans)
    for number, client in enumerate(veterans):
        client.send(b"SUB veteran.%d.* 1\r\nSUB veterans group 2\r\n" % number)
        client.expect_nothing()
    victim = next(iter(served))
    kill(victim)
    for client in served[victim]:
        client.read_to_end()
    survivors = [client for client in veterans if client not in served[victim]]
    wait_for_workers(server, {victim})
    # Connections go to a worker only when it is ready, so these fill the new one up.
    wait_until(
        lambda: dial(server) and new_worker_serves(server, served, dial), "the new worker to serve", 30
    )
    recruits = [dial(server) for _ in range(2 * server.worker_count)]
    for recruit in recruits:
        for client in survivors:
            number = veterans.index(client)
            recruit.send(b"PUB veteran.%d.x 2\r\nhi\r\n" % number)
            client.expect(rb"MSG veteran\.%d\.x 1 2\r\nhi\r\n" % number)
    for number, recruit in enumerate(recruits):
        recruit.send(b"SUB recruit.%d 1\r\n" % number)
        recruit.expect_nothing()
        for client in survivors:
            client.send(b"PUB recruit.%d 2\r\nho\r\n" % number)
            recruit.expect(rb"MSG recruit\.%d 1 2\r\nho\r\n" % number)


def new_worker_serves(server, served, dial):
    client = dial(server)
    return serving_worker(server, client) not in served


@pytest.mark.servers("midge-2", "midge-4")
def test_queue_group_goes_on_without_the_members_of_the_dead_worker(start, dial):
    server = start()
    members = [dial(server) for _ in range(2 * server.worker_count)]
    served = by_worker(server, members)
    for member in members:
        member.send(b"SUB group.work group 1\r\n")
        member.expect_nothing()
    victim, *survivors = served
    kill(victim)
    for member in served[victim]:
        member.read_to_end()
    rest = [member for pid in survivors for member in served[pid]]
    publisher = rest[0]
    counts = dict.fromkeys(map(id, rest), 0)

    def take():
        for member in rest:
            member.send(b"PING\r\n")
            counts[id(member)] += member.expect(rb".*?PONG\r\n").group().count(b"MSG ")
        return sum(counts.values())

    def interest_is_dropped():
        before = take()
        publisher.send(b"PUB group.work 0\r\n\r\n" * 20)
        return wait_for_all(before + 20)

    def wait_for_all(total):
        return any(take() >= total for _ in range(50))

    wait_until(interest_is_dropped, "messages to go to the living alone", 30)
    before = take()
    publisher.send(b"PUB group.work 0\r\n\r\n" * 200)
    wait_until(lambda: take() >= before + 200, "200 messages", 20)
    assert take() == before + 200


class Flow(threading.Thread):
    """A publisher and a subscriber that go on whatever happens, and note whose end they saw.

    Attributes:
        delivered: messages that arrived in order.
        lost_workers: process ids of workers whose connections ended under it.
        failure: what must not happen, None if nothing did.
    """

    def __init__(self, server, number):
        super().__init__(daemon=True)
        self.server = server
        self.subject = b"flow.%d" % number
        self.stopped = threading.Event()
        self.delivered = 0
        self.lost_workers = set()
        self.failure = None

    def run(self):
        try:
            while not self.stopped.is_set():
                self.run_pair()
        except AssertionError as error:
            self.failure = error

    def connect(self):
        """Return a connection and its worker; None while the worker that was chosen is dying."""
        try:
            client = self.server.connect()
        except (AssertionError, ConnectionError):
            return None
        try:
            client.handshake()
            return client, serving_worker(self.server, client)
        except (AssertionError, ConnectionError):
            client.close()
            return None

    def run_pair(self):
        pair = [self.connect(), self.connect()]
        try:
            if all(pair):
                self.exchange(*pair)
        finally:
            for end in filter(None, pair):
                end[0].close()

    def exchange(self, publishing, subscribing):
        publisher, subscriber = publishing[0], subscribing[0]
        number = 0
        try:
            subscriber.send(b"SUB %b 1\r\n" % self.subject)
            subscriber.expect_nothing()
            while not self.stopped.is_set():
                operations = (
                    b"PUB %b 8\r\n%08d\r\n" % (self.subject, number + i) for i in range(BATCH_MESSAGES)
                )
                publisher.send(b"".join(operations))
                for i in range(BATCH_MESSAGES):
                    self.receive(
                        publisher, subscriber, rb"MSG %b 1 8\r\n%08d\r\n" % (self.subject, number + i)
                    )
                number += BATCH_MESSAGES
                self.delivered += BATCH_MESSAGES
        except (AssertionError, ConnectionError) as error:
            ended = [pid for client, pid in (publishing, subscribing) if self.has_ended(client)]
            if not ended:
                raise AssertionError("messages stopped between living connections") from error
            self.lost_workers.update(ended)

    @staticmethod
    def receive(publisher, subscriber, pattern):
        """Wait for a message, but not when the publisher's end shows that it will not come."""
        for attempt in range(RECEIVE_ATTEMPTS):
            try:
                return subscriber.expect(pattern, RECEIVE_ATTEMPT_S)
            except AssertionError:
                if subscriber.at_end or publisher.is_closed_by_peer() or attempt == RECEIVE_ATTEMPTS - 1:
                    raise
        return None

    @staticmethod
    def has_ended(client):
        """Whether a connection is over; one that is not must answer."""
        try:
            client.send(b"PING\r\n")
            client.expect(rb".*?PONG\r\n")
        except (AssertionError, ConnectionError):
            return True
        return False


@pytest.mark.servers("midge-2", "midge-4")
def test_killing_workers_under_load_again_and_again_harms_no_other_and_leaks_nothing(start, request):
    server = start()
    rng = random.Random(7)
    wait_until(lambda: len(server.workers()) == server.worker_count, "all workers", 30)
    before = holdings(server)
    flows = [Flow(server, number) for number in range(FLOW_COUNT)]
    for flow in flows:
        flow.start()
    killed = set()
    for _ in range(request.config.getoption("--kill-rounds")):
        wait_for_progress(flows)
        victim = rng.choice(server.workers()).pid
        killed.add(victim)
        kill(victim)
        wait_for_workers(server, {victim})
    wait_for_progress(flows)
    for flow in flows:
        flow.stopped.set()
    for flow in flows:
        flow.join(60)
        assert not flow.is_alive()
        assert flow.failure is None, repr(flow.failure)
        assert flow.lost_workers <= killed
    wait_until(lambda: holdings(server) == before, f"descriptors and mappings to be {before} again", 30)


def wait_for_progress(flows):
    """Wait until every flow has delivered more than it had, or has failed."""
    counts = [flow.delivered for flow in flows]

    def all_moved():
        return all(flow.failure or flow.delivered > count for flow, count in zip(flows, counts, strict=True))

    wait_until(all_moved, "every flow to deliver", 60)


@pytest.mark.servers("midge-2")
async def test_official_client_reconnects_after_its_worker_died(start, cleanup):
    server = start()
    reconnects = []

    async def on_reconnect():
        reconnects.append(True)

    async def ignore(_error):
        """The end of the connection is expected."""

    clients = [
        await nats.connect(
            server.url,
            reconnect_time_wait=0.05,
            max_reconnect_attempts=-1,
            reconnected_cb=on_reconnect,
            error_cb=ignore,
        )
        for _ in range(4)
    ]
    for client in clients:
        cleanup.push_async_callback(client.close)

    async def answer(message):
        await message.respond(b"alive")

    for client in clients:
        await client.subscribe("death.service", "group", cb=answer)
        await settle(client)
    kill(server.workers()[0].pid)
    await wait_until_async(lambda: len(reconnects) >= 2, "two clients to reconnect", 30)

    async def everybody_is_answered():
        for client in clients:
            try:
                reply = await client.request("death.service", b"", 1)
            except (nats.errors.Error, ConnectionError):
                return False
            assert reply.data == b"alive"
        return True

    await wait_until_async(everybody_is_answered, "requests to be answered", 60)
