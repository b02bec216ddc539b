"""Starting with JetStream: what is logged, told, refused and kept over a restart."""

import re

import pytest
from support.broker import Broker
from support.jetstream_client import JetStreamClient


@pytest.mark.servers("midge-2", "nats-server")
def test_start_is_logged_in_nats_servers_words(start):
    server = start(jetstream=True, domain="hub")
    log = server.log()
    for pattern in (
        r"\[INF\] Starting JetStream\n",
        r"\[INF\]   Strict:          true\n",
        r"\[INF\]   Max Memory:      \d+\.\d\d GB\n",
        r"\[INF\]   Max Storage:     \d+\.\d\d [MGT]B\n",
        rf'\[INF\]   Store Directory: "{re.escape(str(server.directory / "store" / "jetstream"))}"\n',
        r"\[INF\]   Domain:          hub\n",
        r"\[INF\]   API Level:       5\n",
    ):
        assert re.search(pattern, log), pattern


@pytest.mark.servers("midge-2", "nats-server")
def test_clients_are_told_that_there_is_jetstream(start, dial_raw):
    info = dial_raw(start(jetstream=True, domain="hub")).info
    assert (info["jetstream"], info["domain"], info["api_lvl"]) == (True, "hub", 5)
    without = dial_raw(start()).info
    assert "jetstream" not in without
    assert "domain" not in without


@pytest.mark.servers("midge-2", "nats-server")
def test_file_in_the_place_of_the_store_is_one_fatal_line(kind, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        AssertionError, match=r"\[FTL\] Can't start JetStream: storage directory is not a directory"
    ):
        Broker(kind, tmp_path / "broker", store_dir=str(tmp_path / "file"))


@pytest.mark.servers("midge-1")
def test_two_brokers_cannot_use_one_store(start, tmp_path):
    """nats-server has no such check, and loses messages."""
    first = start(store_dir=str(tmp_path))
    with pytest.raises(AssertionError, match=r"\[FTL\] Can't start JetStream: storage directory .* in use"):
        Broker("midge-1", tmp_path / "broker", store_dir=str(tmp_path))
    first.stop()
    start(store_dir=str(tmp_path))


@pytest.mark.servers("midge-2")
def test_store_is_free_again_after_every_process_was_killed(start):
    server = start(jetstream=True)
    server.kill()
    server.start_again()


@pytest.mark.servers("midge-1")
def test_streams_go_with_another_number_of_workers(start, dial):
    server = start(jetstream=True)
    names = [f"STREAM{number}" for number in range(12)]
    client = JetStreamClient(dial(server, headers=True, no_responders=True))
    for name in names:
        client.create(name, subjects=[f"{name}.*"], allow_direct=True)
        client.publish(f"{name}.x", name.encode(), [("Nats-Msg-Id", "first")])
    for sequence, kind in enumerate(("midge-4", "midge-2", "midge-1"), start=2):
        server.stop()
        server.kind = kind
        server.start_again()
        client = JetStreamClient(dial(server, headers=True, no_responders=True))
        assert client.api("STREAM.NAMES")["streams"] == sorted(names)
        for name in names:
            assert client.publish(f"{name}.x", b"", [("Nats-Msg-Id", "first")])["duplicate"]
            assert client.publish(f"{name}.y")["seq"] == sequence
            [first] = client.ask(f"$JS.API.DIRECT.GET.{name}.{name}.x")
            assert first.payload == name.encode()
