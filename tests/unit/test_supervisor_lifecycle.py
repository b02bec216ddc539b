"""The fleet replaces a worker that dies, whenever that is, and never lets two disagree about a ring.

Workers here are tests/support/stub_worker.py: real processes that speak the link protocol and remember
every message.
"""

import asyncio
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.wait import wait_until_async

from shm.doorbell import Doorbell
from shm.region import Region
from supervisor import config, flags, lifecycle
from supervisor.lifecycle import Fleet, Worker, WorkerState
from supervisor.link import Accepted
from supervisor.spawn import spawn_worker
from workers.log import Log

STUB = (sys.executable, str(Path(__file__).parents[1] / "support" / "stub_worker.py"))
WORKERS = 3


class Bench:
    """A fleet of stub workers."""

    def __init__(self, folder: Path) -> None:
        self.log_path = folder / "log"
        self.region = Region.create(WORKERS, data_ring_bytes=4096, control_ring_bytes=4096)
        self.doorbells = [Doorbell.create() for _ in range(WORKERS)]
        self.log = Log(file=str(self.log_path))
        self.failed: list[str] = []
        self.orphans: list[Accepted] = []
        self.all_down = False
        self.fleet: Fleet

    def build(self, *options: str) -> Fleet:
        settings = config.from_flags(flags.parse(["--workers", str(WORKERS)]))
        self.fleet = Fleet(
            settings,
            self.log,
            self.region,
            self.doorbells,
            [spawn_worker([*STUB, *options]) for _ in range(WORKERS)],
            server_id="NABC",
            port=4222,
            worker_command=[*STUB, *options],
        )
        self.fleet.on_start_failed = self.failed.append
        self.fleet.on_orphans = self.orphans.extend
        self.fleet.on_all_down = self.note_all_down
        self.fleet.configure()
        return self.fleet

    def note_all_down(self) -> None:
        self.all_down = True

    async def start(self, *options: str) -> Fleet:
        fleet = self.build(*options)
        fleet.attach(asyncio.get_running_loop())
        await self.wait_ready()
        return fleet

    async def wait_ready(self) -> None:
        await wait_until_async(lambda: self.fleet.is_ready, "every worker to be ready")

    async def stop(self) -> None:
        self.fleet.stop()
        await wait_until_async(lambda: self.all_down, "every worker to end")

    async def messages(self, worker: Worker) -> list[dict[str, Any]]:
        """Return every message that the worker's present process got, by asking it over a connection."""
        client, handed = socket.socketpair()
        with client:
            worker.hand_over([Accepted(1, "127.0.0.1", 1, False, handed.detach())])
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, b"LOG\r\n")
            received = b""
            async with asyncio.timeout(10):
                while received.count(b"\r\n") < 2:
                    part = await loop.sock_recv(client, 1 << 20)
                    assert part, "the worker closed the connection"
                    received += part
        messages: list[dict[str, Any]] = json.loads(received.split(b"\r\n")[1])
        return messages

    def close(self) -> None:
        self.fleet.kill()
        for worker in self.fleet.workers:
            if worker.is_alive:
                worker.reap()
        for connection in self.orphans:
            os.close(connection.descriptor)
        for doorbell in self.doorbells:
            doorbell.close()
        self.region.close()
        self.log.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def epochs_known(messages: Sequence[dict[str, Any]], me: int) -> tuple[list[int], list[int]]:
    """Return the epochs of the rings (from me, to me) that a worker believes in after these messages."""
    outgoing = list(messages[0]["config"]["ring_epochs"][me])
    incoming = [row[me] for row in messages[0]["config"]["ring_epochs"]]
    for message in messages[1:]:
        if message["op"] == "peer_up":
            outgoing[message["peer"]] = message["epoch_out"]
            incoming[message["peer"]] = message["epoch_in"]
    return outgoing, incoming


async def expect_agreement(bench: Bench) -> None:
    """Check that every worker believes in the epochs that the rings have, and lacks no peer."""
    epochs = bench.region.ring_epochs()
    for worker in bench.fleet.workers:
        messages = await bench.messages(worker)
        outgoing, incoming = epochs_known(messages, worker.index)
        assert outgoing == epochs[worker.index]
        assert incoming == [row[worker.index] for row in epochs]
        down = set()
        for message in messages:
            if message["op"] == "peer_down":
                assert message["peer"] not in down
                down.add(message["peer"])
            elif message["op"] == "peer_up":
                assert message["peer"] in down
                down.remove(message["peer"])
        assert not down


async def test_workers_are_told_who_they_are(bench: Bench) -> None:
    fleet = await bench.start()
    for worker in fleet.workers:
        (start,) = (await bench.messages(worker))[:1]
        assert start["op"] == "start"
        assert start["config"]["index"] == worker.index
        assert start["config"]["worker_count"] == WORKERS
    await bench.stop()


async def test_no_worker_gets_connections_before_all_are_ready(bench: Bench) -> None:
    fleet = bench.build()
    counts: set[int] = set()
    fleet.on_ready = lambda: counts.add(len(fleet.ready_workers()))
    fleet.attach(asyncio.get_running_loop())
    await bench.wait_ready()
    assert counts <= {0, WORKERS}
    assert len(fleet.ready_workers()) == WORKERS
    await bench.stop()


async def test_dead_worker_is_replaced_after_the_others_let_go(bench: Bench) -> None:
    fleet = await bench.start()
    victim = fleet.workers[1]
    dead = victim.process_id
    os.kill(dead, signal.SIGKILL)
    await wait_until_async(lambda: victim.process_id != dead, "a new process")
    await bench.wait_ready()
    assert [message["op"] for message in await bench.messages(fleet.workers[0])][:3] == [
        "start",
        "peer_down",
        "peer_up",
    ]
    assert bench.region.ring_epochs()[0][1] == 2
    assert bench.region.ring_epochs()[0][2] == 1
    await expect_agreement(bench)
    assert f"Worker 1 (pid {dead}) ended: signal 9; starting a new one" in bench.log_path.read_text()
    await bench.stop()


async def test_survivors_get_connections_while_a_worker_is_down(bench: Bench) -> None:
    fleet = await bench.start()
    os.kill(fleet.workers[2].process_id, signal.SIGKILL)
    await wait_until_async(lambda: fleet.workers[2].state is not WorkerState.READY, "the death to be noticed")
    assert [worker.index for worker in fleet.ready_workers()] == [0, 1]
    await bench.wait_ready()
    await bench.stop()


@pytest.mark.parametrize("seed", range(3))
async def test_workers_that_die_at_any_moment_leave_no_disagreement(bench: Bench, seed: int) -> None:
    """Kill random living workers, whether ready or just started, several at once or one after another."""
    rng = random.Random(seed)
    fleet = await bench.start()
    kills = 0
    while kills < 12:
        killed = [worker for worker in rng.sample(fleet.workers, rng.randint(1, WORKERS)) if worker.is_alive]
        dead = [worker.process_id for worker in killed]
        for process_id in dead:
            os.kill(process_id, signal.SIGKILL)
        kills += len(killed)
        await wait_until_async(
            lambda killed=killed, dead=dead: (
                not any(worker.is_alive and worker.process_id in dead for worker in killed)
            ),
            "the deaths to be noticed",
        )
        if rng.random() < 0.5:
            await bench.wait_ready()
        else:
            await wait_until_async(
                lambda: any(worker.state is WorkerState.STARTING for worker in fleet.workers), "a restart"
            )
    await bench.wait_ready()
    await expect_agreement(bench)
    await bench.stop()


async def test_worker_that_cannot_start_is_held_back_longer_each_time(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "RESTART_DELAY_FIRST_SECONDS", 0.001)
    broken = tmp_path / "broken"
    fleet = await bench.start("--fail-start-if", str(broken))
    broken.touch()
    os.kill(fleet.workers[1].process_id, signal.SIGKILL)
    await wait_until_async(lambda: fleet.workers[1].failures >= 3, "three starts to fail")
    assert "ended: exit status 3" in bench.log_path.read_text()
    assert [worker.index for worker in fleet.ready_workers()] == [0, 2]
    broken.unlink()
    await bench.wait_ready()
    assert fleet.workers[1].failures == 0
    await expect_agreement(bench)
    await bench.stop()


async def test_worker_that_fails_at_the_first_start_ends_the_start(bench: Bench, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    fleet = bench.build("--fail-start-if", str(broken))
    fleet.attach(asyncio.get_running_loop())
    await wait_until_async(lambda: bench.failed, "the failure")
    assert "ended while starting: exit status 3" in bench.failed[0]
    await wait_until_async(lambda: bench.all_down, "the other workers' end")


async def test_worker_that_does_not_let_go_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "PEER_DOWN_ANSWER_SECONDS", 0.01)
    fleet = await bench.start("--silent")
    os.kill(fleet.workers[1].process_id, signal.SIGKILL)
    await wait_until_async(
        lambda: "until worker 0, 2 lets go of its rings" in bench.log_path.read_text(), "the warning"
    )
    await bench.stop()


async def test_worker_that_sends_garbage_is_replaced(bench: Bench) -> None:
    """A link whose end was seen is of no use, so its process is ended though it lives."""
    fleet = await bench.start()
    dead = fleet.workers[0].process_id
    fleet._on_link_end(fleet.workers[0], "sent what is no message")
    await wait_until_async(lambda: fleet.workers[0].process_id != dead, "a new process")
    await bench.wait_ready()
    await bench.stop()


async def test_connections_that_a_dead_worker_never_got_come_back(bench: Bench) -> None:
    fleet = await bench.start()
    victim = fleet.workers[0]
    os.kill(victim.process_id, signal.SIGSTOP)
    handed = 0
    while not victim.unsent_connections:
        handed += 1
        victim.hand_over([Accepted(handed, "127.0.0.1", 1, False, os.open(os.devnull, os.O_RDONLY))])
    assert victim.load == handed
    os.kill(victim.process_id, signal.SIGKILL)
    await wait_until_async(lambda: bench.orphans, "the connections")
    assert [connection.client_id for connection in bench.orphans] == [handed]
    await bench.wait_ready()
    assert victim.load == 0
    await bench.stop()


async def test_all_stop_when_the_last_lame_duck_has_no_clients(bench: Bench) -> None:
    fleet = await bench.start()
    fleet.lame_duck(2_000_000, 1_000_000)
    await wait_until_async(lambda: bench.all_down, "every worker to end")


async def test_death_of_the_last_lame_duck_stops_all(bench: Bench) -> None:
    """A worker that dies in lame duck mode is not replaced."""
    fleet = await bench.start()
    for worker in fleet.workers:
        os.kill(worker.process_id, signal.SIGSTOP)
    fleet.lame_duck(2_000_000, 1_000_000)
    for worker in fleet.workers:
        os.kill(worker.process_id, signal.SIGKILL)
    await wait_until_async(lambda: bench.all_down, "every worker to end")


async def test_workers_end_when_their_supervisor_lets_go_of_the_links(bench: Bench) -> None:
    fleet = await bench.start()
    fleet._restarts = False
    for worker in fleet.workers:
        assert worker.link is not None
        worker.link.close()
    await wait_until_async(lambda: bench.all_down, "every worker to end")
