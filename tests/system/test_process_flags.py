"""`midge serve` from its command line to what it listens on, logs and leaves behind."""

import json
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.broker import Broker
from support.wait import wait_until

pytestmark = pytest.mark.servers("midge-2")

SERVE = (sys.executable, "-m", "supervisor", "serve")
LINE = re.compile(r"\[\d+\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} \[(INF|DBG|TRC|WRN|ERR|FTL)\] .+")


def serve(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a start that is expected to fail."""
    return subprocess.run([*SERVE, *words], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--bogus", "midge: flag provided but not defined: -bogus"),
        ("-p", "midge: flag needs an argument: -p"),
        ("-c nats.conf", "midge: flag -c is not supported yet"),
        ("--user derek", "midge: --user was given without --pass"),
        ("--workers 0", "midge: invalid value 0 for flag --workers: must be 1 to 64"),
        (
            "--max_payload 2MB --max_pending 1MB",
            "midge: max_payload (2097152) cannot be higher than max_pending (1048576)",
        ),
        (
            "-l /nowhere/midge.log",
            "midge: error opening file: open /nowhere/midge.log: no such file or directory",
        ),
    ],
)
def test_mistake_is_one_clear_line_and_status_one(words, line):
    ended = serve(*words.split())
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", line + "\n")


def test_busy_port_is_one_fatal_line(server):
    ended = serve("-a", "127.0.0.1", "-p", str(server.port))
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    address = f"127.0.0.1:{server.port}"
    assert line.endswith(
        f'[FTL] Error listening on port: {address}, "listen tcp {address}: bind: address already in use"'
    )
    assert LINE.fullmatch(line)


def test_fatal_line_reaches_standard_error_past_a_log_file(server, tmp_path):
    log = tmp_path / "midge.log"
    ended = serve("-a", "127.0.0.1", "-p", str(server.port), "-l", str(log))
    assert ended.returncode == 1
    assert "address already in use" in ended.stderr
    assert "address already in use" in log.read_text()


def test_pid_file_that_cannot_be_written_is_one_fatal_line():
    ended = serve("-a", "127.0.0.1", "-p", "-1", "-P", "/nowhere/midge.pid")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.endswith("[FTL] Could not write pidfile: open /nowhere/midge.pid: no such file or directory")


def test_host_with_too_few_descriptors_is_one_fatal_line():
    limited = ["bash", "-c", 'ulimit -n 100; exec "$@"', "bash", *SERVE, "-a", "127.0.0.1", "-p", "-1"]
    ended = subprocess.run(limited, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "[FTL] Host too small: 100 open files are allowed" in line


def test_start_is_logged_as_nats_server_does(start):
    broker = start(server_name="one")
    lines = [line.partition("[INF] ")[2] for line in broker.log().splitlines()]
    assert lines[0] == "Starting midge"
    assert lines[1].startswith("  Version:  ")
    assert lines[2] == "  Name:     one"
    assert re.fullmatch(r"  ID:       N[A-Z2-7]{55}", lines[3])
    assert lines[-2:] == [f"Listening for client connections on 127.0.0.1:{broker.port}", "Server is ready"]
    assert all(LINE.fullmatch(line) for line in broker.log().splitlines())


def test_log_file_gets_what_supervisor_and_workers_log(start, dial, tmp_path):
    path = tmp_path / "midge.log"
    broker = start(log=path)
    dial(broker)
    wait_until(lambda: "Server is ready" in path.read_text(), "the log file")
    assert broker.log() == ""


def test_files_are_those_of_nats_server(start, tmp_path):
    """The PID file stays after the stop, the ports file goes."""
    pid_file = tmp_path / "midge.pid"
    broker = start(pid=pid_file)
    ports_file = broker.directory / f"nats-server_{broker.pid}.ports"
    assert pid_file.read_bytes() == str(broker.pid).encode()
    assert stat.S_IMODE(pid_file.stat().st_mode) == 0o600
    assert json.loads(ports_file.read_text()) == {"nats": [f"nats://127.0.0.1:{broker.port}"]}
    broker.stop()
    assert pid_file.exists()
    assert not list(broker.directory.glob("*.ports*"))


def test_ports_file_that_cannot_be_written_is_said_and_no_more(server, tmp_path):
    words = ["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(tmp_path / "missing")]
    with open(tmp_path / "log", "w") as log, subprocess.Popen([*SERVE, *words], stderr=log) as process:
        path = tmp_path / "missing" / f"nats-server_{process.pid}.ports"
        expected = f"[ERR] Error writing ports file ({path}): No such file or directory"
        wait_until(lambda: expected in (tmp_path / "log").read_text(), "the error line")
        process.terminate()
        assert process.wait(10) == 0


def test_wrapper_called_nats_server_is_the_process_itself(tmp_path, dial):
    """A script that does `exec midge serve "$@"` under that name satisfies those who launch nats-server."""
    script = tmp_path / "nats-server"
    script.write_text(f'#!/bin/sh\nexec {" ".join(SERVE)} "$@"\n')
    script.chmod(0o755)
    version = subprocess.run([script, "-v"], capture_output=True, text=True, timeout=30, check=True)
    assert version.stdout == "nats-server: v2.15.1\n"
    with subprocess.Popen(
        [script, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(tmp_path)], stderr=subprocess.DEVNULL
    ) as process:
        ports = tmp_path / f"nats-server_{process.pid}.ports"
        wait_until(ports.exists, "the ports file")
        process.terminate()
        assert process.wait(10) == 0


def test_clients_over_the_limit_are_told(start, dial, dial_raw):
    broker = start(max_connections=3)
    for _ in range(3):
        dial(broker)
    dial_raw(broker).expect_error(b"maximum connections exceeded", closes=True)


def test_limit_counts_living_connections(start, dial, dial_raw):
    broker = start(max_connections=2)
    first = dial(broker)
    dial(broker)
    first.close()

    def fits():
        client = dial_raw(broker)
        client.send_if_open(b"CONNECT {}\r\nPING\r\n")
        return client.expect(rb"\+OK\r\nPONG\r\n|-ERR '[^']*'\r\n")[0].startswith(b"+OK")

    wait_until(fits, "room for a client after another has left")


def test_info_says_who_and_where(start, dial_raw):
    broker = start(server_name="one", client_advertise="broker.example:1234")
    info = dial_raw(broker).info
    assert info["server_name"] == "one"
    assert (info["host"], info["port"]) == ("broker.example", 1234)
    assert info["connect_urls"] == ["broker.example:1234"]


@pytest.mark.parametrize("client", ["127.0.0.1", "::1"])
def test_all_addresses_of_both_families_are_served_by_default(client, tmp_path):
    words = ["-p", "-1", "--workers", "1", "--ports_file_dir", str(tmp_path)]
    with subprocess.Popen([*SERVE, *words], stderr=subprocess.DEVNULL) as process:
        path = tmp_path / f"nats-server_{process.pid}.ports"
        wait_until(path.exists, "the ports file")
        urls = json.loads(path.read_text())["nats"]
        port = int(urls[0].rpartition(":")[2])
        assert f"nats://127.0.0.1:{port}" in urls
        with socket.create_connection((client, port), timeout=10) as connection:
            assert f'"client_ip":"{client}"'.encode() in connection.recv(4096)
        process.terminate()
        assert process.wait(10) == 0


def test_default_is_a_worker_per_usable_core(tmp_path):
    with (
        open(tmp_path / "log", "w") as log,
        subprocess.Popen([*SERVE, "-a", "127.0.0.1", "-p", "-1"], stderr=log) as process,
    ):
        wait_until(lambda: "Server is ready" in Path(log.name).read_text(), "the broker")
        process.terminate()
        assert process.wait(10) == 0
    assert f"  Workers:  {min(64, len(os.sched_getaffinity(0)))}" in Path(log.name).read_text()


@pytest.mark.servers("midge-1", "midge-4")
def test_connections_are_spread_over_all_workers(start, dial):
    broker = start()
    clients = [dial(broker) for _ in range(8)]
    assert len({client.info["client_id"] for client in clients}) == 8
    idle = {process.pid: open_sockets(process) for process in broker.workers()}
    assert len(set(idle.values())) == 1, idle


def open_sockets(process) -> int:
    return sum(1 for connection in process.net_connections("tcp") if connection.status == "ESTABLISHED")


def test_port_is_free_again_at_once(start, tmp_path, dial):
    """With clients connected at its end, so that the port has connections in TIME_WAIT."""
    broker = start()
    dial(broker)
    broker.stop()
    again = Broker("midge-1", tmp_path / "again", port=broker.port)
    dial(again)
    again.stop()
