"""The running service: signals, readiness, lame duck mode and the end, around the listener and the fleet."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import uvloop

from supervisor import files

if TYPE_CHECKING:
    from supervisor.config import ServerConfig
    from supervisor.lifecycle import Fleet
    from supervisor.listener import Listener
    from workers.log import Log

# Time that workers have to become ready the first time; they need a tenth of a second.
START_SECONDS_MAX = 30.0
# Time that workers have to end by themselves; they need a round of their loop to write what can be written
# at once.
STOP_SECONDS_MAX = 5.0
# A launcher and the process group it signals often deliver the same stop twice; a later one is impatience.
STOP_AGAIN_SECONDS = 0.5

# Names as nats-server logs them.
HANDLED_SIGNALS = {
    signal.SIGINT: "interrupt",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hangup",
    signal.SIGUSR1: "user defined signal 1",
    signal.SIGUSR2: "user defined signal 2",
}


class Service:
    """Runs until told to stop."""

    def __init__(
        self, config: ServerConfig, log: Log, listener: Listener, fleet: Fleet, bound_address: str, port: int
    ) -> None:
        """Take what start.py prepared: a bound listener and a fleet whose processes are booting.

        Args:
            bound_address, port: where the listener listens.
        """
        self._config = config
        self._log = log
        self._listener = listener
        self._fleet = fleet
        self._bound_address = bound_address
        self._port = port
        self._ports_file = ""
        self._is_ready = False
        self._is_stopping = False
        self._stopping_since = 0.0
        self._exit_code = 0
        self._ended = asyncio.Event()

    async def run(self) -> int:
        """Serve, and return the exit status once every worker has ended."""
        loop = asyncio.get_running_loop()
        self._fleet.on_ready = self._on_ready
        self._fleet.on_start_failed = self._fail
        self._fleet.on_orphans = self._listener.spread
        self._fleet.on_all_down = self._ended.set
        actions = {
            signal.SIGINT: self._stop,
            signal.SIGTERM: self._stop,
            signal.SIGHUP: self._refuse_reload,
            signal.SIGUSR1: self._reopen_logs,
            signal.SIGUSR2: self._enter_lame_duck,
        }
        for number, action in actions.items():
            loop.add_signal_handler(number, self._on_signal, HANDLED_SIGNALS[number], action)
        # start.py blocked them; one that came meanwhile is handled now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)
        self._fleet.attach(loop)
        self._listener.attach(loop)
        deadline = loop.call_later(START_SECONDS_MAX, self._check_started)
        await self._ended.wait()
        deadline.cancel()
        # The handlers go with the loop: a later signal must not turn a clean end into a death by signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        self._remove_ports_file()
        self._log.info("Server Exiting..")
        return self._exit_code

    def _on_signal(self, name: str, action: object) -> None:
        assert callable(action)
        self._log.info(f'Trapped "{name}" signal')
        action()

    def _on_ready(self) -> None:
        if not self._is_ready and self._fleet.is_ready and not self._is_stopping:
            self._is_ready = True
            self._log.info("Server is ready")
            self._write_ports_file()
        self._listener.resume()

    def _check_started(self) -> None:
        if not self._is_ready:
            self._fail(f"Workers were not ready within {START_SECONDS_MAX:.0f} seconds")

    def _fail(self, reason: str) -> None:
        if not self._is_stopping:
            self._log.fatal(reason)
            self._exit_code = 1
            self._stop()

    def _stop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._is_stopping:
            if loop.time() - self._stopping_since >= STOP_AGAIN_SECONDS:
                self._fleet.kill()
            return
        self._is_stopping = True
        self._stopping_since = loop.time()
        self._log.info("Initiating Shutdown...")
        self._listener.close()
        loop.call_later(STOP_SECONDS_MAX, self._fleet.kill)
        self._fleet.stop()

    def _enter_lame_duck(self) -> None:
        if self._is_stopping:
            return
        self._log.info("Entering lame duck mode, stop accepting new clients")
        self._listener.close()
        self._fleet.lame_duck(self._config.lame_duck_duration_ns, self._config.lame_duck_grace_ns)

    def _refuse_reload(self) -> None:
        self._log.error("Failed to reload server configuration: there is no configuration file yet")

    def _reopen_logs(self) -> None:
        try:
            reopened = self._log.reopen()
        except OSError as error:
            self._log.error(f"File log re-open failed: {error.strerror}")
            return
        self._log.info("File log re-opened" if reopened else "File log re-open ignored, not a file logger")
        if reopened:
            self._fleet.reopen_logs()

    def _write_ports_file(self) -> None:
        if not self._config.ports_file_dir:
            return
        path = files.ports_file_path(self._config.ports_file_dir, os.getpid())
        try:
            addresses = files.reachable_addresses(self._config.host, self._bound_address)
            files.write_ports_file(path, addresses, self._port)
        except OSError as error:
            self._log.error(f"Error writing ports file ({path}): {error.strerror}")
            return
        self._ports_file = path

    def _remove_ports_file(self) -> None:
        if self._ports_file:
            try:
                os.unlink(self._ports_file)
            except OSError as error:
                self._log.error(f"Error cleaning up ports file {self._ports_file}: {error.strerror}")


def run(
    config: ServerConfig, log: Log, listener: Listener, fleet: Fleet, bound_address: str, port: int
) -> int:
    """Run a Service in a new event loop and return the exit status."""

    async def serve() -> int:
        return await Service(config, log, listener, fleet, bound_address, port).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve())
