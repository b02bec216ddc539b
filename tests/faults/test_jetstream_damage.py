"""A disk that is full or damaged costs what lies there and nothing else, and it is said so."""

import os
import resource
from pathlib import Path

import psutil
import pytest
from support.jetstream_client import JetStreamClient
from support.wait import wait_until

from supervisor.placement import owner_table
from workers.jetstream.ownership import Ownership

pytestmark = pytest.mark.servers("midge-2")

MESSAGES = 100
LARGE = b"x" * 100_000
# Above what the files of a small store have, below what the messages of a test need.
FILE_BYTES_MAX = 600_000


@pytest.fixture
def connect(dial):
    def connect_to(server):
        return JetStreamClient(dial(server, headers=True, no_responders=True))

    return connect_to


def streams_on_each_worker(server):
    """Return the name of a stream for worker 0 and one for worker 1."""
    ownership = Ownership(owner_table(server.worker_count))
    names = {ownership.owner("$G", f"STREAM{number}"): f"STREAM{number}" for number in range(50)}
    return names[0], names[1]


def folder_of(server, worker_index):
    return server.directory / "store" / "jetstream" / f"worker-{worker_index}"


def process_of(server, worker_index):
    """Return the worker that has files of a folder open."""
    folder = str(folder_of(server, worker_index))
    for process in server.workers():
        if any(os.readlink(link).startswith(folder) for link in Path(f"/proc/{process.pid}/fd").iterdir()):
            return process
    raise AssertionError(f"no worker has {folder} open")


def fill(client, name):
    """Create a stream and publish MESSAGES messages, each with a payload of its own."""
    client.create(name, subjects=[f"{name}.*"], allow_direct=True)
    for number in range(MESSAGES):
        assert client.publish(f"{name}.{number}", payload_of(name, number))["seq"] == number + 1


def payload_of(name, number):
    return b"%b message %d;" % (name.encode(), number) * 5


def restart_with_damage(server, change):
    """Stop the broker, have every file of the store changed, and start it again."""
    server.stop()
    for path in sorted((server.directory / "store").rglob("*")):
        if path.is_file():
            change(path)
    server.start_again()


def read(client, name, number):
    return client.ask(f"$JS.API.DIRECT.GET.{name}", b'{"seq":%d}' % (number + 1))[0]


def test_damaged_message_is_lost_alone_and_told(start, connect):
    server = start(jetstream=True)
    client = connect(server)
    damaged, whole = streams_on_each_worker(server)
    fill(client, damaged)
    fill(client, whole)

    def flip(path):
        data = path.read_bytes()
        path.write_bytes(data.replace(payload_of(damaged, 50), payload_of(damaged, 50).swapcase()))

    restart_with_damage(server, flip)
    client = connect(server)
    assert read(client, damaged, 50).status == 404
    for number in (49, 51):
        assert read(client, damaged, number).payload == payload_of(damaged, number)
    state = client.info(damaged)["state"]
    assert (state["messages"], state["last_seq"]) == (MESSAGES - 1, MESSAGES)
    assert state["lost"]["msgs"] == [51]
    assert client.publish(f"{damaged}.new")["seq"] == MESSAGES + 1
    assert "lost" not in client.info(whole)["state"]
    assert client.info(whole)["state"]["messages"] == MESSAGES
    line = f"[ERR] JetStream: stream '{damaged}' has lost 1 messages to damage"
    wait_until(lambda: line in server.log(), "the loss to be logged")


def test_stream_whose_definition_is_gone_is_set_aside(start, connect):
    server = start(jetstream=True)
    client = connect(server)
    damaged, whole = streams_on_each_worker(server)
    fill(client, damaged)
    fill(client, whole)

    def overwrite(path):
        if "worker-0/streams/" in str(path) and path.suffix != ".log":
            path.write_bytes(b"\xff" * path.stat().st_size)

    restart_with_damage(server, overwrite)
    client = connect(server)
    assert client.info(whole)["state"]["messages"] == MESSAGES
    assert client.info(damaged)["error"]["err_code"] == 10059
    assert list((folder_of(server, 0) / "aside").iterdir())
    wait_until(lambda: "[WRN] JetStream: damage" in server.log(), "the damage to be logged")
    client.create(damaged, subjects=[f"{damaged}.*"])
    assert client.publish(f"{damaged}.new")["seq"] == 1


def test_full_disk_refuses_messages_and_nothing_else(start, connect, dial):
    server = start(jetstream=True)
    client = connect(server)
    full, other = streams_on_each_worker(server)
    for name in (full, other):
        client.create(name, subjects=[f"{name}.*"], allow_direct=True)
    owner = psutil.Process(process_of(server, 0).pid)
    unlimited = owner.rlimit(psutil.RLIMIT_FSIZE)
    owner.rlimit(psutil.RLIMIT_FSIZE, (FILE_BYTES_MAX, resource.RLIM_INFINITY))
    answers = [client.publish(f"{full}.x", LARGE) for _ in range(10)]
    stored = [answer["seq"] for answer in answers if "error" not in answer]
    refused = [answer["error"]["err_code"] for answer in answers if "error" in answer]
    assert stored == list(range(1, len(stored) + 1))
    assert len(stored) + len(refused) == 10
    assert refused
    assert set(refused) == {10077}
    # Messages that are there can be read, streams of other workers take more, and so does core messaging.
    assert read(client, full, 0).payload == LARGE
    assert client.publish(f"{other}.x", LARGE)["seq"] == 1
    plain = dial(server)
    plain.send(b"SUB core 1\r\nPUB core 2\r\nhi\r\n")
    plain.expect(rb"MSG core 1 2\r\nhi\r\n")
    assert "[ERR] JetStream: storage failed" in server.log()
    owner.rlimit(psutil.RLIMIT_FSIZE, unlimited)
    server.stop()
    server.start_again()
    client = connect(server)
    for sequence in stored:
        assert read(client, full, sequence - 1).payload == LARGE
    assert client.publish(f"{full}.x", LARGE)["seq"] > stored[-1]


def test_worker_folder_that_cannot_be_used_is_one_fatal_line(start, tmp_path):
    folder = tmp_path / "jetstream"
    folder.mkdir()
    (folder / "worker-1").write_text("")
    with pytest.raises(AssertionError, match=r"\[FTL\] .*worker-1"):
        start(store_dir=str(tmp_path))
