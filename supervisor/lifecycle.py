"""The fleet: starts the workers, notices at once when one ends, and brings it back.

A worker is STARTING from its spawn until it says "ready", then READY, and DOWN when its process has ended.
What happens when worker k ends, each step only when the one before is complete:

1. its process is reaped, so it can never write to shared memory again;
2. every other living worker is told peer_down and answers when it no longer touches the rings to and from k;
3. those rings are reset, which raises their epoch: a frame or a pointer kept from before is refused;
4. a new worker k is started with the new epochs, and every other is told peer_up with them;
5. it says "ready" when it has everybody's interest, and gets connections.

Workers may end at any moment of this. Each one that is down has its own set of answers it waits for: a
worker that ends is taken out of all sets, and a worker that starts is told of all that are down and joins
their sets, so no two restarts wait for each other. A worker that ends before it was ready comes back later
each time, and until then keeps itself in its own set.

Until the first time that all are ready, a worker's end is the end of the start: better a clear failure for
whoever started midge than a broker that tries for ever.
"""

from __future__ import annotations

import enum
import os
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from supervisor.link import Accepted, Link, Message
from supervisor.spawn import WORKER_COMMAND, Spawned, spawn_worker

if TYPE_CHECKING:
    import asyncio

    from shm.doorbell import Doorbell
    from shm.region import Region
    from supervisor.config import ServerConfig
    from workers.log import Log

RESTART_DELAY_FIRST_SECONDS = 0.1
RESTART_DELAY_MAX_SECONDS = 5.0
# A worker answers peer_down within one round of its loop; one that takes this long is worth a warning.
PEER_DOWN_ANSWER_SECONDS = 5.0


class WorkerState(enum.Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    DOWN = "down"


class Worker:
    """One place in the fleet; processes come and go in it."""

    def __init__(self, index: int, region: Region) -> None:
        """Describe worker `index` of a region; it has no process yet."""
        self.index = index
        self.state = WorkerState.DOWN
        self.process_id = 0
        self.process_fd = -1
        self.link: Link | None = None
        self.failures = 0
        """Ends in a row before it was ready."""
        self._region = region
        self._handed = 0
        self._accepted_base = 0

    @property
    def is_alive(self) -> bool:
        """Whether it has a process that was not reaped yet."""
        return self.state is not WorkerState.DOWN

    @property
    def load(self) -> int:
        """Live connections, those on their way included."""
        accepted = self._region.counter(self.index, "accepted_total") - self._accepted_base
        return self._region.counter(self.index, "connections") + self._handed - accepted

    @property
    def unsent_connections(self) -> int:
        """Connections that wait in its link."""
        return self.link.unsent_connections if self.link is not None else 0

    def begin(self, spawned: Spawned) -> None:
        """Take over a process just started."""
        assert not self.is_alive
        self.process_id, self.process_fd, end = spawned
        self.link = Link(end)
        self.state = WorkerState.STARTING

    def become_ready(self) -> None:
        """Count connections from here: a process that says ready has accepted none."""
        self.state = WorkerState.READY
        self.failures = 0
        self._handed = 0
        self._accepted_base = self._region.counter(self.index, "accepted_total")

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send to its process, which must be alive."""
        assert self.link is not None
        self.link.send(message, descriptors)

    def hand_over(self, connections: Sequence[Accepted]) -> None:
        """Send connections to its process; their descriptors belong to the link from here on."""
        assert self.link is not None
        self._handed += len(connections)
        self.link.hand_over(connections)

    def kill(self) -> None:
        """End its process at once; its pidfd then tells that it is gone."""
        signal.pidfd_send_signal(self.process_fd, signal.SIGKILL)

    def reap(self) -> tuple[str, list[Accepted]]:
        """Forget its process, which has ended.

        Returns:
            How it ended, in words, and the connections that it never got.
        """
        _, status = os.waitpid(self.process_id, 0)
        os.close(self.process_fd)
        assert self.link is not None
        unsent = self.link.close()
        self.link = None
        self.process_fd = -1
        self.state = WorkerState.DOWN
        code = os.waitstatus_to_exitcode(status)
        return (f"signal {-code}" if code < 0 else f"exit status {code}"), unsent


class Fleet:
    """All workers. configure() needs no event loop, so workers boot while the supervisor imports one."""

    def __init__(
        self,
        config: ServerConfig,
        log: Log,
        region: Region,
        doorbells: Sequence[Doorbell],
        spawned: Sequence[Spawned],
        *,
        server_id: str,
        port: int,
        worker_command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        """Take over the first process of every worker; configure() sends them on their way.

        Args:
            doorbells: one per worker; they outlive every worker process.
            spawned: the processes, one per worker.
            port: the port that is listened on.
            worker_command: see spawn_worker.
        """
        self.workers = [Worker(index, region) for index in range(region.worker_count)]
        self.on_ready: Callable[[], None] = lambda: None
        """Called whenever a worker became ready."""
        self.on_start_failed: Callable[[str], None] = lambda reason: None
        """Called when a worker ended before all were ready for the first time."""
        self.on_orphans: Callable[[Sequence[Accepted]], None] = lambda connections: None
        """Gets the connections that a worker was to get and did not live to see; their owner from here on."""
        self.on_all_down: Callable[[], None] = lambda: None
        """Called when the last worker has ended after stop or lame_duck."""
        self._config = config
        self._log = log
        self._region = region
        self._doorbells = doorbells
        self._server_id = server_id
        self._port = port
        self._command = worker_command
        self._loop: asyncio.AbstractEventLoop | None = None
        # For each worker that is down: whose answers are missing, itself included while it is held back.
        self._missing: dict[int, set[int]] = {}
        self._lame_ducks: set[int] = set()
        self._was_ready = False
        self._restarts = True
        for worker, process in zip(self.workers, spawned, strict=True):
            worker.begin(process)

    def configure(self) -> None:
        """Send every worker its first message."""
        epochs = self._region.ring_epochs()
        for worker in self.workers:
            self._send_start(worker, epochs)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to listen to the workers and to watch their processes."""
        self._loop = loop
        for worker in self.workers:
            self._watch(worker)

    def ready_workers(self) -> list[Worker]:
        """Return the workers that may get connections; none before all have been ready once."""
        if not self._was_ready:
            return []
        return [worker for worker in self.workers if worker.state is WorkerState.READY]

    @property
    def is_ready(self) -> bool:
        """Whether every worker is ready now."""
        return all(worker.state is WorkerState.READY for worker in self.workers)

    def reopen_logs(self) -> None:
        """Have every worker open its log file again."""
        for worker in self._alive():
            worker.send({"op": "reopen_log"})

    def lame_duck(self, duration_ns: int, grace_ns: int) -> None:
        """Have every worker send its clients away; when none has any left, all are stopped.

        Args:
            duration_ns: time over which clients are closed, after grace_ns.
        """
        self._restarts = False
        self._lame_ducks = {worker.index for worker in self._alive()}
        for worker in self._alive():
            worker.send({"op": "lame_duck", "duration_ns": duration_ns, "grace_ns": grace_ns})

    def stop(self) -> None:
        """Have every worker end; kill() what does not."""
        self._restarts = False
        for worker in self._alive():
            worker.send({"op": "stop"})
        self._check_all_down()

    def kill(self) -> None:
        """End every worker process at once."""
        self._restarts = False
        for worker in self._alive():
            worker.kill()

    def _alive(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.is_alive]

    def _send_start(self, worker: Worker, epochs: list[list[int]]) -> None:
        config = self._config.for_worker(
            worker.index, server_id=self._server_id, port=self._port, ring_epochs=epochs
        )
        descriptors = [self._region.fd, *(doorbell.fd for doorbell in self._doorbells)]
        worker.send({"op": "start", "config": config.to_json()}, descriptors)

    def _watch(self, worker: Worker) -> None:
        assert self._loop is not None
        assert worker.link is not None
        worker.link.attach(
            self._loop,
            lambda message: self._on_message(worker, message),
            lambda reason: self._on_link_end(worker, reason),
        )
        self._loop.add_reader(worker.process_fd, self._on_process_end, worker)

    def _on_message(self, worker: Worker, message: Message) -> None:
        operation = message["op"]
        if operation == "ready" and worker.state is WorkerState.STARTING:
            worker.become_ready()
            if self._was_ready:
                self._log.info(f"Worker {worker.index} is ready again (pid {worker.process_id})")
            self._was_ready = self._was_ready or self.is_ready
            self.on_ready()
        elif operation == "peer_down_done" and message.get("peer") in self._missing:
            self._missing[message["peer"]].discard(worker.index)
            self._restart_if_answered(message["peer"])
        elif operation == "lame_duck_done":
            self._leave_lame_duck(worker)
        elif operation != "peer_down_done":
            self._log.error(f"Worker {worker.index} sent an unexpected message: {operation!r}")

    def _on_link_end(self, worker: Worker, reason: str) -> None:
        """End a worker that has no link any more; usually it is ending anyway."""
        self._log.debug(f"Worker {worker.index} {reason}")
        if self._restarts:
            worker.kill()

    def _on_process_end(self, worker: Worker) -> None:
        assert self._loop is not None
        self._loop.remove_reader(worker.process_fd)
        process_id, was_ready = worker.process_id, worker.state is WorkerState.READY
        how, unsent = worker.reap()
        self._tell_peers(worker)
        self.on_orphans(unsent)
        if not self._restarts:
            self._leave_lame_duck(worker)
            self._check_all_down()
        elif not self._was_ready:
            self._restarts = False
            self.on_start_failed(f"Worker {worker.index} (pid {process_id}) ended while starting: {how}")
        else:
            self._log.error(f"Worker {worker.index} (pid {process_id}) ended: {how}; starting a new one")
            if not was_ready:
                self._hold_back(worker)
            self._loop.call_later(PEER_DOWN_ANSWER_SECONDS, self._warn_if_missing, worker.index, process_id)
            self._restart_if_answered(worker.index)

    def _tell_peers(self, worker: Worker) -> None:
        """Tell every living worker that one is down, and expect no answer from that one any more."""
        peers = self._alive()
        for peer in peers:
            peer.send({"op": "peer_down", "peer": worker.index})
        self._missing[worker.index] = {peer.index for peer in peers}
        for index in list(self._missing):
            self._missing[index].discard(worker.index)
            if index != worker.index:
                self._restart_if_answered(index)

    def _hold_back(self, worker: Worker) -> None:
        assert self._loop is not None
        delay = min(RESTART_DELAY_FIRST_SECONDS * 2**worker.failures, RESTART_DELAY_MAX_SECONDS)
        worker.failures += 1
        self._missing[worker.index].add(worker.index)
        self._loop.call_later(delay, self._release, worker.index)

    def _release(self, index: int) -> None:
        if index in self._missing:
            self._missing[index].discard(index)
            self._restart_if_answered(index)

    def _restart_if_answered(self, index: int) -> None:
        if not self._restarts or not self._was_ready or self._missing.get(index, {index}):
            return
        del self._missing[index]
        worker = self.workers[index]
        epochs = self._region.reset_rings(index)
        peers = self._alive()
        try:
            worker.begin(spawn_worker(self._command))
        except OSError as error:
            self._log.error(f"Worker {index} could not be started: {error.strerror}")
            self._missing[index] = set()
            self._hold_back(worker)
            return
        self._send_start(worker, epochs)
        self._watch(worker)
        for down, missing in self._missing.items():
            worker.send({"op": "peer_down", "peer": down})
            missing.add(index)
        for peer in peers:
            peer.send(
                {
                    "op": "peer_up",
                    "peer": index,
                    "epoch_out": epochs[peer.index][index],
                    "epoch_in": epochs[index][peer.index],
                }
            )

    def _warn_if_missing(self, index: int, process_id: int) -> None:
        missing = self._missing.get(index, set()) - {index}
        if self._restarts and missing and self.workers[index].process_id == process_id:
            names = ", ".join(str(peer) for peer in sorted(missing))
            self._log.warning(
                f"Worker {index} cannot be started again until worker {names} lets go of its rings"
            )

    def _leave_lame_duck(self, worker: Worker) -> None:
        """Stop all when the last one that was a lame duck has no clients any more."""
        if worker.index in self._lame_ducks:
            self._lame_ducks.remove(worker.index)
            if not self._lame_ducks:
                self.stop()

    def _check_all_down(self) -> None:
        if not self._restarts and not self._alive():
            self.on_all_down()
