"""A running broker does what signals ask, and leaves nothing behind, whatever ends it."""

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from support.wait import wait_until

pytestmark = pytest.mark.servers("midge-2")

SERVE = (sys.executable, "-m", "supervisor", "serve")


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "interrupt"), (signal.SIGTERM, "terminated")])
def test_broker_stops_in_order(start, dial, number, name):
    broker = start()
    clients = [dial(broker) for _ in range(4)]
    broker.stop(number)
    for client in clients:
        client.expect_closed()
    texts = [line.partition("] ")[2].partition("[INF] ")[2] for line in broker.log().splitlines()]
    assert texts[-3:] == [f'Trapped "{name}" signal', "Initiating Shutdown...", "Server Exiting.."]


def test_messages_sent_before_the_stop_arrive(start, dial):
    """What a client had from a PONG on is delivered, though the broker is told to stop right after."""
    broker = start()
    subscriber, publisher = dial(broker), dial(broker)
    subscriber.send(b"SUB last 1\r\nPING\r\n")
    subscriber.expect(rb"PONG\r\n")
    publisher.send(b"PUB last 5\r\nhello\r\nPING\r\n")
    publisher.expect(rb"PONG\r\n")
    broker.stop()
    assert subscriber.read_to_end() == b"MSG last 1 5\r\nhello\r\n"


def test_stop_while_starting_is_as_clean(tmp_path):
    with open(tmp_path / "log", "w+") as log:
        process = subprocess.Popen([*SERVE, "-a", "127.0.0.1", "-p", "-1", "--workers", "2"], stderr=log)
        wait_until(lambda: "Starting midge" in (tmp_path / "log").read_text(), "the first line")
        children = psutil.Process(process.pid).children()
        process.terminate()
        assert process.wait(10) == 0
        assert not psutil.wait_procs(children, 10)[1]


def test_worker_that_hangs_does_not_keep_the_broker_from_stopping(start):
    """Asked again a while later, the broker waits no longer for its workers; else it waits five seconds."""
    broker = start()
    broker.processes()
    broker.workers()[0].suspend()

    def ends_when_asked_again():
        broker.process.send_signal(signal.SIGTERM)
        return broker.process.poll() is not None

    wait_until(ends_when_asked_again, "the stop", timeout_s=4)
    broker.expect_clean_exit()


def test_kill_of_the_supervisor_ends_the_workers(start, dial):
    broker = start()
    clients = [dial(broker) for _ in range(4)]
    broker.processes()
    broker.process.kill()
    broker.process.wait(10)
    broker.expect_nothing_left()
    for client in clients:
        client.expect_closed()
    # The fixture stops it again: nothing is left to stop, and the status is that of the kill.
    broker.process.returncode = 0


def test_lame_duck_says_so_and_ends_when_its_clients_are_gone(start, dial):
    broker = start(lame_duck_duration="400ms", lame_duck_grace_period="100ms")
    modern, old = dial(broker, protocol=1), dial(broker)
    broker.process.send_signal(signal.SIGUSR2)
    modern.expect(rb"INFO [^\r\n]*\r\n")
    assert modern.info["ldm"] is True
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", broker.port))
    modern.expect_closed()
    old.expect_closed()
    broker.expect_clean_exit()
    assert "Entering lame duck mode, stop accepting new clients" in broker.log()


def test_lame_duck_without_clients_ends_at_once(start):
    """Its duration is two minutes, more than the test would wait."""
    broker = start()
    broker.process.send_signal(signal.SIGUSR2)
    broker.expect_clean_exit()


def test_lame_duck_can_be_stopped(start, dial):
    broker = start()
    client = dial(broker, protocol=1)
    broker.process.send_signal(signal.SIGUSR2)
    client.expect(rb"INFO [^\r\n]*\r\n")
    broker.stop()
    client.expect_closed()


def test_log_is_written_to_a_new_file_after_it_was_moved(start, dial, tmp_path):
    path = tmp_path / "midge.log"
    broker = start(log=path)
    moved = path.rename(tmp_path / "midge.log.1")
    broker.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: path.exists() and "File log re-opened" in path.read_text(), "the new file")
    assert 'Trapped "user defined signal 1" signal' in moved.read_text()
    dial(broker)
    wait_until(
        lambda: not any(holds(process, moved) for process in broker.processes()),
        "all to let go of the old file",
    )


def holds(process, path) -> bool:
    return any(file.path == str(path) for file in process.open_files())


def test_reload_is_refused_and_changes_nothing(start, dial):
    broker = start()
    client = dial(broker)
    broker.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "[ERR] Failed to reload server configuration" in broker.log(), "the answer")
    client.fence()


def test_signal_flag_reaches_the_process_in_the_pid_file(start, tmp_path):
    pid_file = tmp_path / "midge.pid"
    broker = start(pid=pid_file)
    subprocess.run([*SERVE, f"-sl=ldm={pid_file}"], check=True, timeout=30)
    broker.expect_clean_exit()
    assert 'Trapped "user defined signal 2" signal' in broker.log()


def test_keys_in_the_terminal_reach_the_supervisor_alone(start):
    """Ctrl-C signals a process group; workers have groups of their own and are stopped in order."""
    broker = start()
    groups = {process.pid: os.getpgid(process.pid) for process in broker.workers()}
    assert all(process_id == group for process_id, group in groups.items())
