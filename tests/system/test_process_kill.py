"""kill -9 of a worker costs its own clients a reconnect, and nobody else anything."""

import signal

import pytest
from support.wait import wait_until

pytestmark = pytest.mark.servers("midge-2", "midge-4")

ROUNDS = 20


def wait_for_replacements(broker, count):
    """Wait until so many workers have been replaced since the start."""
    wait_until(lambda: broker.log().count("is ready again") >= count, f"{count} workers to be replaced")


@pytest.fixture
def broker(start):
    return start()


def split_by_death(broker, clients, victim):
    """Kill a worker; return the clients that lived there and the others."""
    victim.send_signal(signal.SIGKILL)
    wait_until(
        lambda: any(client.is_closed_by_peer() for client in clients),
        "the clients of the dead worker to notice",
    )
    wait_for_replacements(broker, 1)
    lost = [client for client in clients if client.is_closed_by_peer()]
    return lost, [client for client in clients if client not in lost]


def test_only_clients_of_the_dead_worker_lose_their_connection(broker, dial):
    clients = [dial(broker) for _ in range(4 * broker.worker_count)]
    lost, kept = split_by_death(broker, clients, broker.workers()[0])
    assert len(lost) == 4
    for client in kept:
        client.fence()


def test_message_flow_between_others_goes_on(broker, dial):
    clients = [dial(broker) for _ in range(2 * broker.worker_count)]
    for number, client in enumerate(clients):
        client.send(b"SUB flow %d\r\nPING\r\n" % number)
        client.expect(rb"PONG\r\n")
    _, kept = split_by_death(broker, clients, broker.workers()[-1])
    for publisher in kept:
        publisher.send(b"PUB flow 2\r\nhi\r\nPING\r\n")
        for client in kept:
            client.expect(rb"(PONG\r\n)?MSG flow \d+ 2\r\nhi\r\n")
        publisher.send(b"PING\r\n")
        publisher.expect(rb"(PONG\r\n){1,2}")
        for client in kept:
            client.fence()


def test_replaced_worker_takes_part_again(broker, dial):
    """New connections go to it, and messages reach it from every other worker and come back."""
    old = [dial(broker) for _ in range(2 * broker.worker_count)]
    _, kept = split_by_death(broker, old, broker.workers()[0])
    wait_until(lambda: spread_again(broker, dial), "connections to be on every worker")
    new = [dial(broker) for _ in range(2 * broker.worker_count)]
    for number, client in enumerate([*kept, *new]):
        client.send(b"SUB again 1\r\nPING\r\n")
        client.expect(rb"PONG\r\n")
        publisher = [*kept, *new][number // 2]
        publisher.send(b"PUB again 0\r\n\r\n")
        for receiver in [*kept, *new][: number + 1]:
            receiver.expect(rb"MSG again 1 0\r\n\r\n")


def spread_again(broker, dial):
    dial(broker)
    return all(
        any(connection.status == "ESTABLISHED" for connection in process.net_connections("tcp"))
        for process in broker.workers()
    )


def test_many_deaths_leave_no_leak(broker, dial):
    """Descriptors of the supervisor and of a worker that lived through it all are as many as before."""
    supervisor, survivor = broker.processes()[0], broker.workers()[-1]
    before = supervisor.num_fds(), survivor.num_fds()
    for number in range(ROUNDS):
        victim = next(process for process in broker.workers() if process.pid != survivor.pid)
        client = dial(broker)
        victim.send_signal(signal.SIGKILL)
        wait_for_replacements(broker, number + 1)
        client.close()
        dial(broker).close()
    wait_until(
        lambda: (supervisor.num_fds(), survivor.num_fds()) == before,
        f"descriptors to be {before} again",
    )


def test_death_of_all_workers_is_survived(broker, dial):
    clients = [dial(broker) for _ in range(broker.worker_count)]
    dead = broker.workers()
    for process in dead:
        process.send_signal(signal.SIGKILL)
    for client in clients:
        client.expect_closed()
    wait_for_replacements(broker, len(dead))
    subscriber, publisher = dial(broker), dial(broker)
    subscriber.send(b"SUB after 1\r\nPING\r\n")
    subscriber.expect(rb"PONG\r\n")
    publisher.send(b"PUB after 0\r\n\r\n")
    subscriber.expect(rb"MSG after 1 0\r\n\r\n")
