"""Streams through nats-py: made, changed, filled and read from any connection, over restarts and deaths."""

import asyncio
import json
import os
import signal

import nats
import nats.errors
import pytest
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError, KeyWrongLastSequenceError, NotFoundError
from support.nats_py import settle
from support.wait import wait_until_async

pytestmark = [
    pytest.mark.servers("midge-1", "midge-2", "midge-4", "nats-server"),
    # nats-py leaves sockets of connections that broke.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CONNECTIONS = 8
TIMEOUT_S = 20


async def test_any_connection_makes_fills_reads_and_deletes_streams(jetstream_server, connect_contexts):
    contexts = await connect_contexts(jetstream_server, CONNECTIONS)
    for number, js in enumerate(contexts):
        other = contexts[number - 1]
        name = f"ANY{number}"
        made = await js.add_stream(name=name, subjects=[f"any{number}.*"])
        assert (made.config.name, made.state.messages, made.did_create) == (name, 0, True)
        for sequence, publisher in enumerate(contexts, start=1):
            ack = await publisher.publish(f"any{number}.{sequence}", b"payload %d" % sequence)
            assert (ack.stream, ack.seq) == (name, sequence)
        info = await other.stream_info(name, subjects_filter=">")
        assert info.state.messages == CONNECTIONS
        assert info.state.subjects == {f"any{number}.{i}": 1 for i in range(1, CONNECTIONS + 1)}
        message = await other.get_msg(name, 3)
        assert (message.subject, message.data, message.seq) == (f"any{number}.3", b"payload 3", 3)
        assert (await other.get_last_msg(name, f"any{number}.5")).seq == 5
        assert await js.delete_stream(name)
        with pytest.raises(NotFoundError):
            await other.stream_info(name)


async def test_stream_of_a_subject_is_found(jetstream_server, connect_contexts):
    first, second = await connect_contexts(jetstream_server, 2)
    await first.add_stream(name="FIND", subjects=["find.>"])
    assert await second.find_stream_name_by_subject("find.me") == "FIND"
    with pytest.raises(NotFoundError):
        await second.find_stream_name_by_subject("lost.me")


async def test_lists_page_through_many_streams(jetstream_server, connect_contexts):
    [js, other] = await connect_contexts(jetstream_server, 2)
    names = [f"PAGE{number:03}" for number in range(300)]
    await asyncio.gather(*(js.add_stream(name=name, subjects=[name]) for name in names))
    first = [info.config.name for info in await other.streams_info(offset=0)]
    assert len(first) == 256
    rest = [info.config.name for info in await other.streams_info(offset=256)]
    assert [name for name in sorted(first + rest) if name.startswith("PAGE")] == names
    await asyncio.gather(*(other.delete_stream(name) for name in names))


async def test_an_update_changes_limits_and_subjects(jetstream_server, connect_contexts):
    first, second = await connect_contexts(jetstream_server, 2)
    made = await first.add_stream(name="UPDATE", subjects=["update.a", "update.b"])
    for _ in range(5):
        await first.publish("update.a", b"x")
    made.config.subjects = ["update.b"]
    made.config.max_msgs = 2
    updated = await second.update_stream(made.config)
    assert (updated.config.subjects, updated.config.max_msgs) == (["update.b"], 2)
    state = (await first.stream_info("UPDATE")).state
    assert (state.messages, state.first_seq, state.last_seq) == (2, 4, 5)
    with pytest.raises(nats.js.errors.NoStreamResponseError):
        await second.publish("update.a", b"x")
    assert (await second.publish("update.b", b"x")).seq == 6


async def test_refusals_are_nats_servers(jetstream_server, connect_contexts):
    first, second = await connect_contexts(jetstream_server, 2)
    await first.add_stream(name="REFUSE", subjects=["refuse.>"])
    for config, code in (
        (StreamConfig(name="REFUSE", subjects=["refuse.other"]), 10058),
        (StreamConfig(name="REFUSE2", subjects=["refuse.x"]), 10065),
        (StreamConfig(name="REFUSE3", subjects=["a..b"]), 10052),
        (StreamConfig(name="REFUSE4", subjects=["refuse4"], num_replicas=3), 10074),
    ):
        with pytest.raises(nats.js.errors.APIError) as caught:
            await second.add_stream(config)
        assert caught.value.err_code == code
    with pytest.raises(NotFoundError) as missing:
        await second.update_stream(name="REFUSE9", subjects=["refuse9"])
    assert missing.value.err_code == 10059
    with pytest.raises(BadRequestError) as wrong:
        await second.publish("refuse.x", b"x", headers={"Nats-Expected-Last-Sequence": "7"})
    assert wrong.value.err_code == 10071


async def test_purge_and_delete_take_messages_out(jetstream_server, connect_contexts):
    first, second = await connect_contexts(jetstream_server, 2)
    await first.add_stream(name="PURGE", subjects=["purge.*"])
    for number in range(10):
        await first.publish(f"purge.{number % 2}", b"x")
    assert await second.delete_msg("PURGE", 1)
    assert await second.purge_stream("PURGE", subject="purge.1", keep=2)
    state = (await first.stream_info("PURGE")).state
    assert (state.messages, state.first_seq, state.last_seq) == (6, 3, 10)
    await second.purge_stream("PURGE")
    state = (await first.stream_info("PURGE")).state
    assert (state.messages, state.first_seq, state.last_seq) == (0, 11, 10)


@pytest.mark.parametrize("storage", [StorageType.FILE, StorageType.MEMORY])
async def test_key_value_bucket_keeps_the_last_of_every_key(jetstream_server, connect_contexts, storage):
    contexts = await connect_contexts(jetstream_server, CONNECTIONS)
    bucket = f"bucket-{storage.value}"
    store = await contexts[0].create_key_value(bucket=bucket, history=3, storage=storage)
    for number, js in enumerate(contexts):
        same = await js.key_value(bucket)
        assert await same.put(f"key.{number}", b"%d" % number) == number + 1
    for number in range(CONNECTIONS):
        assert (await store.get(f"key.{number}")).value == b"%d" % number
    with pytest.raises(KeyWrongLastSequenceError):
        await store.update("key.0", b"late", last=99)
    await store.delete("key.0")
    with pytest.raises(nats.js.errors.KeyNotFoundError):
        await store.get("key.0")
    assert (await store.status()).values == CONNECTIONS + 1
    assert await contexts[1].delete_key_value(bucket)


async def test_many_publishers_at_once_get_every_sequence_once(jetstream_server, connect_contexts):
    contexts = await connect_contexts(jetstream_server, CONNECTIONS)
    await contexts[0].add_stream(name="MANY", subjects=["many.*"])

    async def publish(js, number):
        return [(await js.publish(f"many.{number}", b"x")).seq for _ in range(100)]

    sequences = await asyncio.gather(*(publish(js, number) for number, js in enumerate(contexts)))
    for own in sequences:
        assert own == sorted(own)
    found = sorted(sequence for own in sequences for sequence in own)
    assert found == list(range(1, 100 * CONNECTIONS + 1))


async def test_a_work_queue_stream_keeps_what_nobody_takes(jetstream_server, connect_contexts):
    [js] = await connect_contexts(jetstream_server, 1)
    await js.add_stream(name="QUEUE", subjects=["queue"], retention=RetentionPolicy.WORK_QUEUE)
    await js.publish("queue", b"x")
    assert (await js.stream_info("QUEUE")).state.messages == 1


async def test_advisories_reach_whoever_listens(jetstream_server, connect_contexts):
    first, second = await connect_contexts(jetstream_server, 2, name="advised")
    heard = []

    async def hear(message):
        heard.append((message.subject, json.loads(message.data)))

    await second._nc.subscribe("$JS.EVENT.ADVISORY.>", cb=hear)
    await settle(second._nc)
    await first.add_stream(name="ADVISE", subjects=["advise"])
    await first.delete_stream("ADVISE")
    await wait_until_async(lambda: len(heard) >= 4, "four advisories", TIMEOUT_S)
    mine = {subject.rsplit(".", 2)[-2]: event for subject, event in heard if subject.endswith("ADVISE")}
    assert (mine["CREATED"]["action"], mine["DELETED"]["action"]) == ("create", "delete")
    audit = [event for subject, event in heard if subject.endswith(".API")]
    assert audit[0]["client"]["name"] == "advised"
    assert audit[0]["client"]["kind"] == "Client"
    # nats-server sends them from several threads, so in any order.
    assert {record["subject"] for record in audit} == {
        "$JS.API.STREAM.CREATE.ADVISE",
        "$JS.API.STREAM.DELETE.ADVISE",
    }


async def test_streams_survive_a_restart(start, connect_contexts):
    server = start(jetstream=True)
    contexts = await connect_contexts(server, 4)
    for number, js in enumerate(contexts):
        await js.add_stream(name=f"KEEP{number}", subjects=[f"keep{number}"], max_msgs=50)
        for _ in range(60):
            await js.publish(f"keep{number}", b"payload", headers={"Nats-Msg-Id": f"{_}"})
    before = [await js.stream_info(f"KEEP{number}") for number, js in enumerate(contexts)]
    for js in contexts:
        await js._nc.close()
    server.stop()
    server.start_again()
    contexts = await connect_contexts(server, 4)
    for number, js in enumerate(contexts):
        after = await js.stream_info(f"KEEP{number}")
        assert (after.config, after.state, after.created) == (
            before[number].config,
            before[number].state,
            before[number].created,
        )
        duplicate = await js.publish(f"keep{number}", b"payload", headers={"Nats-Msg-Id": "59"})
        assert (duplicate.seq, duplicate.duplicate) == (60, True)
        assert (await js.publish(f"keep{number}", b"payload")).seq == 61


@pytest.mark.servers("midge-2", "midge-4")
async def test_a_killed_worker_comes_back_with_its_streams_and_nothing_is_lost(start, connect_contexts):
    """Publishers and administrators on other workers only wait; those of the dead worker reconnect."""
    server = start(jetstream=True)
    contexts = await connect_contexts(
        server, CONNECTIONS, max_reconnect_attempts=-1, reconnect_time_wait=0.05
    )
    for number in range(CONNECTIONS):
        await contexts[0].add_stream(name=f"KILL{number}", subjects=[f"kill{number}"])

    async def publish(js, number):
        """Publish until acknowledged, with an id, as one who must not lose anything."""
        for count in range(50):
            while True:
                try:
                    headers = {"Nats-Msg-Id": f"{count}"}
                    await js.publish(f"kill{number}", b"%d" % count, timeout=2, headers=headers)
                    break
                except (TimeoutError, nats.errors.Error):
                    await asyncio.sleep(0)

    publishing = [asyncio.ensure_future(publish(js, number)) for number, js in enumerate(contexts)]
    for process in server.workers():
        os.kill(process.pid, signal.SIGKILL)
        await wait_until_async(
            lambda gone=process: not gone.is_running() and len(server.workers()) == server.worker_count,
            "the worker to be replaced",
            TIMEOUT_S,
        )
    await asyncio.gather(*publishing)
    for number in range(CONNECTIONS):
        state = (await contexts[number].stream_info(f"KILL{number}")).state
        assert (state.messages, state.first_seq, state.last_seq) == (50, 1, 50)
        for sequence in (1, 25, 50):
            message = await contexts[number - 1].get_msg(f"KILL{number}", sequence)
            assert message.data == b"%d" % (sequence - 1)
    names = sorted(info.config.name for info in await contexts[0].streams_info())
    assert names == [f"KILL{number}" for number in range(CONNECTIONS)]
