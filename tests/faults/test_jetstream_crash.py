"""What was acknowledged is there, once and in order, whatever is killed while it is published.

`pytest tests/faults/test_jetstream_crash.py --crash-rounds 100` kills longer.
"""

import os
import signal
from pathlib import Path

import psutil
import pytest
from support.durable_publisher import DurablePublisher, expect_exactly_once, read_all
from support.jetstream_client import JetStreamClient
from support.wait import wait_until

from supervisor.placement import owner_table
from workers.jetstream.ownership import Ownership

STREAM = "ORDERS"
PUBLISHERS = 16
# Of each publisher between two kills.
PROGRESS = 5
ROUND_TIMEOUT_S = 60


def owner_process(server):
    """Return the process id of the worker that keeps STREAM: it has files of its folder open."""
    index = Ownership(owner_table(server.worker_count)).owner("$G", STREAM)
    folder = f"/jetstream/worker-{index}/"
    for process in server.workers():
        try:
            if any(folder in os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()):
                return process.pid
        except FileNotFoundError:
            continue
    return None


def kill_everything(server):
    server.kill()
    server.start_again()


def kill_owner(server):
    os.kill(wait_until(lambda: owner_process(server), "the owner to have its files open", 30), signal.SIGKILL)


def kill_supervisor(server):
    """Its workers end by themselves, and the next supervisor has to wait for them."""
    left = server.workers()
    server.process.kill()
    server.process.wait()
    server.start_again()
    _, alive = psutil.wait_procs(left, timeout=30)
    assert not alive


VICTIMS = (kill_everything, kill_owner, kill_supervisor)


@pytest.mark.servers("midge-2", "midge-4")
def test_acknowledged_messages_survive_every_kill(start, dial, request):
    server = start(jetstream=True)
    client = JetStreamClient(dial(server, headers=True, no_responders=True))
    client.create(STREAM, subjects=["orders.*"], allow_direct=True, duplicate_window=3600 * 10**9)
    publishers = [DurablePublisher(server, f"orders.{number}") for number in range(PUBLISHERS)]
    for publisher in publishers:
        publisher.start()
    try:
        for round_number in range(request.config.getoption("--crash-rounds")):
            wait_for_progress(publishers)
            VICTIMS[round_number % len(VICTIMS)](server)
        wait_for_progress(publishers)
    finally:
        for publisher in publishers:
            publisher.stop()
    client = JetStreamClient(dial(server, headers=True, no_responders=True))
    expect_exactly_once(publishers, read_all(client, STREAM))


def wait_for_progress(publishers):
    targets = [publisher.acknowledged + PROGRESS for publisher in publishers]

    def all_moved():
        return all(
            publisher.failure or publisher.acknowledged >= target
            for publisher, target in zip(publishers, targets, strict=True)
        )

    wait_until(all_moved, "every publisher to be acknowledged", ROUND_TIMEOUT_S)
    assert [publisher.failure for publisher in publishers if publisher.failure] == []
