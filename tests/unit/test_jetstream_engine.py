"""JetStream of one and of several workers in one process: the API, storing, restarts, failures."""

import asyncio
import base64
import errno
import json
from pathlib import Path
from typing import Any

import pytest
from support.jetstream_workers import Workers

from storage.errors import StorageFull
from workers.jetstream import gateway, pull
from workers.jetstream.delivery import Request
from workers.sinks import CallSink

COUNTS = pytest.mark.parametrize("count", [1, 3])


def names_by_owner(workers: Workers) -> dict[int, str]:
    """Return a stream name for each worker that it would live on."""
    ownership = workers[0].engine.ownership
    found: dict[int, str] = {}
    for number in range(1000):
        found.setdefault(ownership.owner("$G", f"S{number}"), f"S{number}")
    return found


def more_names(workers: Workers, owner: int) -> list[str]:
    """Return three names of streams that would live on a worker."""
    ownership = workers[0].engine.ownership
    return [f"S{i}" for i in range(100) if ownership.owner("$G", f"S{i}") == owner][:3]


async def settle() -> None:
    """Let everything that can happen without waiting happen."""
    for _ in range(20):
        await asyncio.sleep(0)


@COUNTS
async def test_every_worker_answers_for_every_stream(tmp_path: Path, count: int):
    async with Workers(count, tmp_path) as workers:
        for owner, name in names_by_owner(workers).items():
            created = await workers[(owner + 1) % count].create(name)
            assert list(created) == ["type", "config", "created", "state", "ts", "did_create"]
            for worker in workers.all:
                ack = await worker.ask(f"{name.lower()}.x", b"payload")
                assert json.loads(ack) == {"stream": name, "seq": worker.index + 1}
                info = await worker.api(f"STREAM.INFO.{name}")
                assert info["state"]["messages"] == worker.index + 1
                assert info["cluster"] == {"leader": "name"}
                got = await worker.api(f"STREAM.MSG.GET.{name}", {"seq": 1})
                assert base64.b64decode(got["message"]["data"]) == b"payload"


@COUNTS
async def test_lists_are_sorted_paged_and_filtered(tmp_path: Path, count: int):
    async with Workers(count, tmp_path) as workers:
        names = sorted(f"S{number}" for number in range(300))
        await asyncio.gather(*(workers[0].create(name) for name in names))
        for worker in workers.all:
            page = await worker.api("STREAM.LIST", {"offset": 0})
            assert (page["total"], page["offset"], page["limit"]) == (300, 0, 256)
            assert [info["config"]["name"] for info in page["streams"]] == names[:256]
            assert page["streams"][0]["config"]["metadata"] == {"_nats.req.level": "0"}
            rest = await worker.api("STREAM.LIST", {"offset": 256})
            assert [info["config"]["name"] for info in rest["streams"]] == names[256:]
            assert (await worker.api("STREAM.NAMES"))["streams"] == names
            assert (await worker.api("STREAM.NAMES", {"subject": "s17.*"}))["streams"] == ["S17"]
            assert (await worker.api("STREAM.NAMES", {"offset": 400}))["streams"] is None


@COUNTS
async def test_a_changed_stream_takes_its_new_subjects_alone(tmp_path: Path, count: int):
    async with Workers(count, tmp_path) as workers:
        one, last = workers[0], workers[count - 1]
        await one.create("A", subjects=["a", "b"])
        updated = await last.api("STREAM.UPDATE.A", {"name": "A", "subjects": ["b", "c"], "max_msgs": 2})
        assert updated["config"]["max_msgs"] == 2
        for subject in ("b", "c", "b"):
            await last.ask(subject)
        assert (await one.api("STREAM.INFO.A"))["state"]["messages"] == 2
        assert last.plane.publish(0, b"a", b"") == 0
        assert not one.plane.has_interest(0, b"a")


@COUNTS
async def test_a_deleted_stream_is_gone_everywhere(tmp_path: Path, count: int):
    async with Workers(count, tmp_path) as workers:
        for name in names_by_owner(workers).values():
            await workers[0].create(name, allow_direct=True)
            await workers[0].ask(f"{name.lower()}.x")
            assert (await workers[count - 1].api(f"STREAM.DELETE.{name}"))["success"]
            for worker in workers.all:
                assert (await worker.api(f"STREAM.INFO.{name}"))["error"]["err_code"] == 10059
                assert not worker.plane.has_interest(0, f"{name.lower()}.x".encode())
                assert not worker.plane.publish(0, f"$JS.API.DIRECT.GET.{name}".encode(), b"")
        assert (await workers[0].api("STREAM.NAMES"))["total"] == 0


@COUNTS
async def test_streams_are_back_after_a_restart(tmp_path: Path, count: int):
    config = {"max_msgs": 5, "metadata": {"a": "b"}, "description": "d", "duplicate_window": 10**9}
    async with Workers(count, tmp_path) as workers:
        names = sorted(names_by_owner(workers).values())
        created = {name: await workers[0].create(name, **config) for name in names}
        await workers[0].create("GONE", storage="memory")
        for name in names:
            for _ in range(7):
                await workers[0].ask(f"{name.lower()}.x", b"payload")
    async with Workers(count, tmp_path) as workers:
        assert (await workers[0].api("STREAM.NAMES"))["streams"] == names
        for name in names:
            info = await workers[count - 1].api(f"STREAM.INFO.{name}")
            assert info["config"] == created[name]["config"]
            assert info["created"] == created[name]["created"]
            assert (info["state"]["first_seq"], info["state"]["last_seq"]) == (3, 7)
            again = {"name": name, "subjects": [f"{name.lower()}.>"], **config}
            assert "error" not in await workers[0].api(f"STREAM.CREATE.{name}", again)
            assert json.loads(await workers[0].ask(f"{name.lower()}.x"))["seq"] == 8
        overlapping = {"name": "NEW", "subjects": [f"{names[0].lower()}.*"]}
        answer = await workers[0].api("STREAM.CREATE.NEW", overlapping)
        assert answer["error"]["err_code"] == 10065


@COUNTS
async def test_an_account_is_told_what_all_workers_have(tmp_path: Path, count: int):
    async with Workers(count, tmp_path) as workers:
        for name in names_by_owner(workers).values():
            await workers[0].create(name, max_bytes=1000)
            await workers[0].ask(f"{name.lower()}.x", b"12345")
        await workers[0].create("M", storage="memory", max_bytes=100)
        await workers[count - 1].api("STREAM.INFO.NOBODY")
        info = await workers[0].api("INFO")
        sizes = sum(30 + len(name) + 2 + 5 for name in names_by_owner(workers).values())
        assert (info["memory"], info["storage"]) == (0, sizes)
        assert (info["reserved_memory"], info["reserved_storage"]) == (100, 1000 * count)
        assert info["streams"] == count + 1
        assert info["api"] == {"level": 5, "total": count + 2, "errors": 1}


async def test_server_limits_bound_what_streams_reserve(tmp_path: Path):
    async with Workers(2, tmp_path, js_max_file=1000, js_max_memory=0) as workers:
        await workers[0].create("A", max_bytes=999)
        config = {"name": "B", "max_bytes": 2}
        assert (await workers[0].api("STREAM.CREATE.B", config))["error"]["err_code"] == 10047
        config["storage"] = "memory"
        assert (await workers[0].api("STREAM.CREATE.B", config))["error"]["err_code"] == 10028


async def test_a_domain_is_another_way_to_the_api_and_is_shown(tmp_path: Path):
    async with Workers(1, tmp_path, js_domain="hub") as workers:
        [one] = workers.all
        created = await one.create("A", allow_direct=True)
        assert "domain" not in created
        assert json.loads(await one.ask("a.x", b"hello")) == {"stream": "A", "domain": "hub", "seq": 1}
        info = json.loads(await one.ask("$JS.hub.API.STREAM.INFO.A"))
        assert info["domain"] == "hub"
        assert await one.ask("$JS.hub.API.DIRECT.GET.A.a.x") == b"hello"
        assert await one.ask("$JS.API.DIRECT.GET.A.a.x") == b"hello"
        assert json.loads(await one.ask("$JS.hub.API.INFO"))["domain"] == "hub"
        assert not one.plane.has_interest(0, b"$JS.other.API.INFO")


@COUNTS
async def test_advisories_tell_of_streams_and_calls(tmp_path: Path, count: int):
    async with Workers(count, tmp_path) as workers:
        heard = workers[count - 1].listen("$JS.EVENT.>")
        await settle()
        await workers[0].create("A")
        await workers[0].api("STREAM.UPDATE.A", {"name": "A", "subjects": ["a.>"], "max_msgs": 1})
        await workers[0].api("STREAM.DELETE.A")
        await settle()
        events = {subject: json.loads(payload) for subject, payload in heard}
        for word, action in (("CREATED", "create"), ("UPDATED", "modify"), ("DELETED", "delete")):
            event = events[f"$JS.EVENT.ADVISORY.STREAM.{word}.A"]
            assert list(event) == ["type", "id", "timestamp", "stream", "action"]
            assert event["type"] == "io.nats.jetstream.advisory.v1.stream_action"
            assert (event["stream"], event["action"], len(event["id"])) == ("A", action, 22)
        audit = [json.loads(payload) for subject, payload in heard if subject.endswith("ADVISORY.API")]
        assert [record["subject"].rsplit(".", 2)[1] for record in audit] == ["CREATE", "UPDATE", "DELETE"]
        members = ["type", "id", "timestamp", "server", "client", "subject", "request", "response"]
        assert list(audit[0]) == members
        assert "request" not in audit[2]
        assert audit[0]["client"]["start"] == "2023-11-14T22:13:20Z"
        assert json.loads(audit[2]["response"])["success"]


async def test_nothing_is_built_for_advisories_that_nobody_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with Workers(1, tmp_path) as workers:
        monkeypatch.setattr("workers.jetstream.advisories.unique_id", lambda: pytest.fail("built one"))
        await workers[0].create("A")
        await workers[0].api("STREAM.DELETE.A")


@pytest.mark.parametrize(
    ("level", "is_refused"),
    [("5", False), ("0", False), ("", False), ("6", True), ("x", True), ("-1", False)],
)
async def test_a_request_may_ask_for_an_api_level(tmp_path: Path, level: str, is_refused: bool):
    async with Workers(1, tmp_path) as workers:
        headers = f"NATS/1.0\r\nNats-Required-Api-Level: {level}\r\n\r\n".encode()
        answer = await workers[0].api("STREAM.NAMES", headers=headers)
        assert (answer.get("error", {}).get("err_code") == 10185) == is_refused


async def test_a_request_on_an_unknown_subject_gets_no_answer(tmp_path: Path):
    async with Workers(1, tmp_path) as workers:
        heard = workers[0].listen("_INBOX.>")
        for call in ("STREAM.INFO", "STREAM.INFO.A.B", "STREAM.TEMPLATE.CREATE.A", "NOTHING", "STREAM.INFO."):
            if not call.endswith("."):
                workers[0].plane.publish(0, f"$JS.API.{call}".encode(), b"", reply=b"_INBOX.a")
        workers[0].plane.publish(0, b"$JS.API.INFO", b"", reply=b"_INBOX.b")
        await settle()
        assert [subject for subject, _ in heard] == ["_INBOX.b"]
        assert workers[0].engine.accounts[0].api_total == 1


async def test_too_many_waiting_requests_are_dropped_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway, "RUNNING_MAX", 2)
    monkeypatch.setattr(gateway, "QUEUE_LIMIT", 5)
    async with Workers(1, tmp_path) as workers:
        heard = workers[0].listen("_INBOX.>")
        for number in range(8):
            body = json.dumps({"name": f"S{number}", "subjects": [f"s{number}"]}).encode()
            subject = f"$JS.API.STREAM.CREATE.S{number}".encode()
            workers[0].plane.publish(0, subject, body, reply=b"_INBOX.%d" % number)
        while len(heard) < 3:
            await asyncio.sleep(0)
        assert [subject for subject, _ in heard] == ["_INBOX.0", "_INBOX.1", "_INBOX.7"]
        assert (await workers[0].api("STREAM.NAMES"))["streams"] == ["S0", "S1", "S7"]
    assert "JetStream API queue limit reached, dropping 5 requests" in (tmp_path / "log").read_text()


async def test_consumers_are_unknown_but_can_be_asked_for(tmp_path: Path):
    async with Workers(1, tmp_path) as workers:
        await workers[0].create("A")
        names = await workers[0].api("CONSUMER.NAMES.A")
        assert (names["total"], names["limit"], names["consumers"]) == (0, 1024, [])
        assert (await workers[0].api("CONSUMER.LIST.A"))["consumers"] == []
        assert (await workers[0].api("CONSUMER.INFO.A.c"))["error"]["err_code"] == 10014
        assert (await workers[0].api("CONSUMER.INFO.B.c"))["error"]["err_code"] == 10059
        assert (await workers[0].api("CONSUMER.INFO.A.c", b"{1}"))["error"]["err_code"] == 10038


@pytest.mark.parametrize(
    "call",
    ["STREAM.LEADER.STEPDOWN.A", "STREAM.PEER.REMOVE.A", "STREAM.PEER.EVACUATE.A", "STREAM.CANCEL_MOVE.A"],
)
async def test_what_needs_a_cluster_says_so(tmp_path: Path, call: str):
    async with Workers(1, tmp_path) as workers:
        assert (await workers[0].api(call))["error"]["err_code"] == 10010


async def test_messages_end_with_their_age(tmp_path: Path):
    async with Workers(1, tmp_path) as workers:
        [one] = workers.all
        for name, storage in (("A", "file"), ("B", "memory")):
            await one.create(name, storage=storage, max_age=100_000_000, duplicate_window=100_000_000)
            await one.ask(f"{name.lower()}.x")
            while (await one.api(f"STREAM.INFO.{name}"))["state"]["messages"]:
                await asyncio.sleep(0)


def fail_writes(workers: Workers, index: int) -> None:
    """Let the store of a worker fail at its next commit, as on a full disk."""
    store: Any = workers[index].engine.store

    def commit(**_: object) -> int:
        store.journal.failed = errno.ENOSPC
        raise StorageFull("journal: ENOSPC")

    class Journal:
        def __getattr__(self, name: str) -> Any:
            return commit if name == "commit" else getattr(real, name)

    real = store.journal
    store.journal = Journal()


async def test_a_full_disk_is_an_error_to_publishers_and_callers_and_nothing_else(tmp_path: Path):
    async with Workers(2, tmp_path) as workers:
        names = names_by_owner(workers)
        await workers[0].create(names[0])
        await workers[0].create(names[1])
        await workers[0].create("M", storage="memory")
        fail_writes(workers, 0)
        for _ in range(2):
            answer = json.loads(await workers[1].ask(f"{names[0].lower()}.x"))
            assert answer["error"]["code"] == 503
            assert answer["error"]["err_code"] == 10077
            assert answer["seq"] == 0
        purge = await workers[1].api(f"STREAM.PURGE.{names[0]}")
        assert "error" in purge
        info = await workers[1].api(f"STREAM.INFO.{names[0]}")
        assert info["config"]["name"] == names[0]
        assert "error" not in json.loads(await workers[0].ask(f"{names[1].lower()}.x"))
        assert "error" not in json.loads(await workers[0].ask("m.x"))
        assert "error" not in await workers[0].api("STREAM.PURGE.M")
        memory, file = (name for name in more_names(workers, 0) if name != names[0])
        created = await workers[1].api(f"STREAM.CREATE.{memory}", {"name": memory, "storage": "memory"})
        assert "error" not in created
        refused = await workers[1].api(f"STREAM.CREATE.{file}", {"name": file})
        assert "error" in refused
        assert file not in (await workers[1].api("STREAM.NAMES"))["streams"]
    log = (tmp_path / "log").read_text()
    assert log.count("storage failed") == 1


async def test_an_unfinished_restore_is_removed_by_the_next_start(tmp_path: Path):
    async with Workers(1, tmp_path) as workers:
        workers[0].engine.store.create_stream("$G/HALF", b"")
        await workers[0].engine.durable()
    async with Workers(1, tmp_path) as workers:
        assert workers[0].engine.store.streams == {}
        assert (await workers[0].api("STREAM.NAMES"))["total"] == 0


async def test_damage_found_at_the_start_is_logged_and_shown(tmp_path: Path):
    async with Workers(1, tmp_path) as workers:
        await workers[0].create("A")
        for _ in range(3):
            await workers[0].ask("a.x", b"payload of this message")
    [segment] = (tmp_path / "worker-0" / "streams").glob("*/*.log")
    data = bytearray(segment.read_bytes())
    data[data.rindex(b"payload of", 0, data.rindex(b"payload of"))] ^= 1
    segment.write_bytes(data)
    async with Workers(1, tmp_path) as workers:
        await workers[0].api("STREAM.MSG.GET.A", {"seq": 2})
        info = await workers[0].api("STREAM.INFO.A")
        assert info["state"]["lost"]["msgs"] == [2]
        assert (await workers[0].api("STREAM.MSG.GET.A", {"seq": 3}))["message"]["seq"] == 3
        while "stream 'A' has lost 1 messages" not in (tmp_path / "log").read_text():
            await asyncio.sleep(0)


async def test_an_answer_may_be_larger_than_a_message(tmp_path: Path):
    async with Workers(2, tmp_path) as workers:
        name = names_by_owner(workers)[1]
        await workers[0].create(name)
        subject = f"{name.lower()}.{'x' * 100}".encode()
        store = workers[1].engine.streams[0, name].store
        for number in range(30_000):
            store.append(b"%b.%d" % (subject, number), b"", b"", 1)
        answer = await workers[0].ask(f"$JS.API.STREAM.INFO.{name}", b'{"subjects_filter":">"}')
        assert len(answer) > 3 * workers[0].engine.config.max_payload
        assert json.loads(answer)["total"] == 30_000


async def test_a_closed_worker_listens_to_nothing(tmp_path: Path):
    async with Workers(2, tmp_path) as workers:
        for name in names_by_owner(workers).values():
            await workers[0].create(name, allow_direct=True)
        closed, other = workers[1], workers[0]
        await closed.engine.close()
        await settle()
        assert not closed.plane.publish(0, b"$JS.API.INFO", b"")
        assert not other.plane.publish(1, b"w.1", b"")
        name = names_by_owner(workers)[1].lower()
        assert not other.plane.publish(0, f"{name}.x".encode(), b"")
        assert not other.plane.publish(0, f"$JS.API.DIRECT.GET.{name.upper()}".encode(), b"")
        workers.all.remove(closed)


class CountingLoop:
    """The event loop, with the callbacks counted that it is given for its next turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.soon = 0
        self._loop = loop
        self.call_later = loop.call_later

    def call_soon(self, callback: Any, *arguments: Any) -> Any:
        self.soon += 1
        return self._loop.call_soon(callback, *arguments)


@pytest.mark.parametrize("target", ["pull", "push"])
async def test_a_message_is_delivered_and_confirmed_without_the_event_loop(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
):
    """What the event loop has to do would end the data plane's lingering in the middle of a conversation."""
    async with Workers(1, tmp_path) as workers:
        worker = workers[0]
        await worker.create("S", storage="memory")
        config = {"durable_name": "C", "ack_policy": "explicit"}
        deliver = {"deliver_subject": "in.got"} if target == "push" else {}
        got: list[bytes] = []
        worker.plane.listen(0, b"in.got", CallSink(lambda _s, reply, _h, _p, _c: got.append(reply)))
        confirmed = worker.listen("in.confirmed")
        wanted = {"stream_name": "S", "config": config | deliver}
        assert "error" not in await worker.api("CONSUMER.DURABLE.CREATE.S.C", wanted)
        await settle()
        loop = CountingLoop(asyncio.get_running_loop())
        monkeypatch.setattr(worker.engine, "_loop", loop)
        if target == "pull":
            worker.plane.publish(0, b"$JS.API.CONSUMER.MSG.NEXT.S.C", b'{"batch":9}', reply=b"in.got")
            worker.plane.run()
        for count in (1, 2):
            worker.plane.publish(0, b"s.a", b"x")
            worker.plane.run()
            assert len(got) == count
            worker.plane.publish(0, got[-1], b"-NAK")
            worker.plane.run()
            worker.plane.publish(0, got[-1], b"+ACK", reply=b"in.confirmed")
            worker.plane.run()
            assert len(confirmed) == count
            del got[count:]
        assert loop.soon == 0
        monkeypatch.undo()


async def test_a_delivery_looks_at_few_of_the_requests_that_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each has its time to end; with thousands of them nobody goes through all for one message."""
    async with Workers(1, tmp_path) as workers:
        worker, waiting, looked = workers[0], 2000, 0
        await worker.create("S", storage="memory")
        got = worker.listen("in.>")
        wanted = {"stream_name": "S", "config": {"durable_name": "C", "max_waiting": 2 * waiting}}
        assert "error" not in await worker.api("CONSUMER.DURABLE.CREATE.S.C", wanted)
        body = b'{"batch":1,"expires":60000000000,"idle_heartbeat":5000000000}'
        for number in range(waiting):
            worker.plane.publish(0, b"$JS.API.CONSUMER.MSG.NEXT.S.C", body, reply=b"in.%d" % number)
        worker.plane.run()
        await settle()
        read_info = pull.read_info

        def count(request: Request) -> pull.Waiting:
            nonlocal looked
            looked += 1
            return read_info(request)

        monkeypatch.setattr(pull, "read_info", count)
        for _ in range(100):
            worker.plane.publish(0, b"s.a", b"x")
            worker.plane.run()
        assert len(got) == 100
        assert looked <= 1000
