"""The comparison, the small client of the Locust users, and the Locust file itself, against real servers."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.broker import Broker
from support.wait import wait_until

from loadtest.client import Server, ServerError
from loadtest.compare.__main__ import main as compare
from loadtest.nats_client import Message, NatsClient, NoResponders

pytestmark = pytest.mark.servers("midge-2", "nats-server")

ROOT = Path(__file__).parents[2]
NATS_COMMAND = f"{Path(sys.executable).with_name('nats-server')} -a 127.0.0.1 -p {{port}}"


@pytest.fixture
def client(server: Broker) -> Iterator[NatsClient]:
    connected = NatsClient(Server("127.0.0.1", server.port))
    yield connected
    connected.close()


def test_a_client_gets_what_it_publishes_in_order(client: NatsClient) -> None:
    arrived: list[Message] = []
    client.subscribe("users.*", arrived.append)
    for number in range(100):
        client.publish(f"users.{number}", b"\r\n" * number)
    wait_until(lambda: len(arrived) == 100, "100 messages")
    assert [message.payload for message in arrived] == [b"\r\n" * number for number in range(100)]


def test_requests_of_many_threads_get_their_own_replies(client: NatsClient) -> None:
    client.subscribe("echo", lambda message: client.publish(message.reply, message.payload), "group")
    replies: dict[int, bytes] = {}

    def ask(number: int) -> None:
        replies[number] = client.request("echo", b"%d" % number).payload

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == {number: b"%d" % number for number in range(20)}


def test_a_request_that_nobody_hears_fails_at_once(client: NatsClient) -> None:
    with pytest.raises(NoResponders, match="nobody"):
        client.request("nobody", b"")


def test_a_request_without_a_reply_ends_with_its_timeout(client: NatsClient) -> None:
    client.subscribe("deaf", lambda message: None)
    with pytest.raises(TimeoutError, match="deaf"):
        client.request("deaf", b"", timeout_s=0.01)


def test_a_closed_client_refuses_work(server: Broker) -> None:
    client = NatsClient(Server("127.0.0.1", server.port))
    client.close()
    with pytest.raises(ServerError, match="connection lost"):
        client.publish("foo", b"")


@pytest.mark.servers("nats-server")
def test_a_headless_locust_run_counts_and_ends_well(server: Broker) -> None:
    """A busy machine may leave a backlog, which Locust tells in its exit status; here it does not matter."""
    words = f"--headless -u 4 -r 4 -t 3s --arrivals 50 --exit-code-on-error 0 --host {server.url}"
    run = subprocess.run(
        [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", *words.split()],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert "LostMessage('message" not in run.stdout + run.stderr
    table = run.stdout[run.stdout.index("latency from due time") :]
    for name in ("publish/subscribe", "request/reply"):
        count = int(table[table.index(name) + len(name) :].split()[0])
        assert count >= 1, run.stdout


def test_a_comparison_alternates_and_writes_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """nats-server against itself: only that all the work is done and told is of interest here."""
    path = tmp_path / "figures.json"
    words = ["-n", "2", "--seconds", "0.05", "--workers", "1", "--only", "pub_16,rr1", "--json", str(path)]
    assert compare([*words, "--midge", NATS_COMMAND]) == 0
    shown = capsys.readouterr()
    assert "pub_16" in shown.out
    order = [line.split()[-1] for line in shown.err.splitlines()]
    assert order == [*["nats-server", "midge-1"] * 2, *["midge-1", "nats-server"] * 2]
    stored = json.loads(path.read_text())
    assert stored["ratios"]["rr1"]["midge-1"]["p50_us"]["rounds"] == 2
    assert stored["failures"] == []


def test_a_server_that_does_not_start_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-n", "1", "--seconds", "0.05", "--workers", "1", "--only", "pub_16"]
    assert compare([*words, "--midge", f"{sys.executable} -c 'raise SystemExit(\"no such luck\")'"]) == 1
    assert "no such luck" in capsys.readouterr().out
