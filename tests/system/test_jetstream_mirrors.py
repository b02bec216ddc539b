"""Mirrors and sources: filters, transforms, starts, origins that come and go, restarts, kill -9."""

import asyncio
import json
import os
import signal
from datetime import UTC, datetime

import nats
import nats.errors
import pytest
from support.wait import wait_until_async

pytestmark = [
    pytest.mark.servers("midge-1", "midge-2", "midge-4", "nats-server"),
    # nats-py leaves sockets of connections that broke.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# nats-server asks for an origin that is not there every ten seconds and more.
TIMEOUT_S = 60


class Api:
    """The JetStream API as dictionaries."""

    def __init__(self, client):
        self.client = client
        self.js = client.jetstream(timeout=20)

    async def call(self, api_name, /, **request):
        """Call the API and return the answer."""
        body = json.dumps(request).encode() if request else b""
        answer = json.loads((await self.client.request(f"$JS.API.{api_name}", body, timeout=20)).data)
        assert "error" not in answer, answer
        return answer

    async def create(self, name, /, **config):
        """Make a stream."""
        return await self.call(f"STREAM.CREATE.{name}", name=name, **config)

    async def publish(self, *subjects, **options):
        """Publish a message to each subject, with the subject as its payload."""
        for subject in subjects:
            await self.js.publish(subject, subject.encode(), **options)

    async def state(self, name):
        """Return messages, first and last sequence."""
        state = (await self.call(f"STREAM.INFO.{name}"))["state"]
        return state["messages"], state["first_seq"], state["last_seq"]

    async def until(self, name, *state):
        """Wait until a stream has this many messages, this first and this last sequence."""
        found = ()

        async def poll():
            nonlocal found
            while (found := await self.state(name)) != state:
                await asyncio.sleep(0)

        try:
            await asyncio.wait_for(poll(), TIMEOUT_S)
        except TimeoutError:
            raise AssertionError(f"{name} has {found}, expected {state}") from None

    async def messages(self, name):
        """Return sequence, subject, payload, headers and time of all messages."""
        info = await self.call(f"STREAM.INFO.{name}", deleted_details=True)
        state = info["state"]
        gone = state.get("deleted", ())
        found = []
        for sequence in range(state["first_seq"], state["last_seq"] + 1):
            if sequence not in gone:
                one = (await self.call(f"STREAM.MSG.GET.{name}", seq=sequence))["message"]
                found.append(tuple(one.get(key) for key in ("seq", "subject", "data", "hdrs", "time")))
        return found

    async def source_headers(self, name):
        """Return what Nats-Stream-Source says in all messages, without the identities."""
        count = (await self.call(f"STREAM.INFO.{name}"))["state"]["messages"]
        found = [await self.js.get_msg(name, sequence) for sequence in range(1, count + 1)]
        texts = [message.headers["Nats-Stream-Source"].split(" ") for message in found]
        assert all(len(words) == 6 and len(words[5]) == 8 for words in texts), texts
        return [" ".join(words[:5]) for words in texts]


@pytest.fixture
def connect(cleanup):
    """A function that connects a client."""

    async def connect_one(server, **options):
        client = await nats.connect(server.url, **options)
        cleanup.push_async_callback(client.close)
        return Api(client)

    return connect_one


async def test_a_mirror_has_the_same_sequences_times_subjects_and_headers(jetstream_server, connect):
    api = await connect(jetstream_server)
    await api.create("SAMEO", subjects=["same.>"])
    await api.publish("same.a", "same.b", headers={"X": "y", "Nats-Msg-Id": "1"})
    await api.publish("same.c", "same.d", "same.e", headers={"Nats-Expected-Stream": "SAMEO"})
    await api.call("STREAM.MSG.DELETE.SAMEO", seq=2)
    await api.create("SAMEM", mirror={"name": "SAMEO"})
    await api.until("SAMEM", *(await api.state("SAMEO")))
    origin, mirror = await api.messages("SAMEO"), await api.messages("SAMEM")
    assert [one[:3] + one[4:] for one in mirror] == [one[:3] + one[4:] for one in origin]
    # What the origin had checked is not kept, all other headers are.
    assert [one[3] for one in mirror] == [origin[0][3], None, None]
    await api.publish("same.f")
    await api.until("SAMEM", 4, 1, 5)


async def test_mirrors_take_what_filters_transforms_and_starts_let_through(jetstream_server, connect):
    api = await connect(jetstream_server)
    await api.create("STARTO", subjects=["start.*"])
    await api.publish("start.a", "start.b")
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    await api.publish("start.a", "start.b", "start.c")
    transforms = [{"src": "start.a", "dest": "x.a"}, {"src": "start.c", "dest": "x.{{partition(1)}}"}]
    for name, mirror, expected in (
        ("STARTSEQ", {"opt_start_seq": 4}, (2, 4, 5)),
        ("STARTFAR", {"opt_start_seq": 7}, (0, 7, 6)),
        ("STARTTIME", {"opt_start_time": now}, (3, 3, 5)),
        ("STARTFILTER", {"filter_subject": "start.b"}, (2, 2, 4)),
        ("STARTTRANS", {"subject_transforms": transforms}, (3, 1, 5)),
    ):
        await api.create(name, mirror={"name": "STARTO", **mirror})
        await api.until(name, *expected)
    assert [one[1] for one in await api.messages("STARTTRANS")] == ["x.a", "x.a", "x.0"]
    await api.publish("start.c", "start.c")
    await api.until("STARTFAR", 1, 7, 7)
    await api.until("STARTTRANS", 5, 1, 7)
    assert await api.state("STARTFILTER") == (2, 2, 4)


async def test_sources_say_where_a_message_is_from(jetstream_server, connect):
    api = await connect(jetstream_server)
    await api.create("FROMA", subjects=["froma.>"])
    await api.create("FROMB", subjects=["fromb.*"])
    await api.publish("froma.1", "fromb.1", "fromb.2", "froma.2")
    transforms = [{"src": "fromb.*", "dest": "to.{{wildcard(1)}}"}]
    await api.create("INTO1", subjects=["into1"], sources=[{"name": "FROMA"}])
    await api.create("INTO2", sources=[{"name": "FROMB", "filter_subject": "fromb.2"}])
    await api.create("INTO3", sources=[{"name": "FROMB", "subject_transforms": transforms}])
    await api.create("INTO4", sources=[{"name": "INTO3"}])
    expected = {
        "INTO1": ["FROMA 1 > > froma.1", "FROMA 2 > > froma.2"],
        "INTO2": ["FROMB 2 fromb.2 > fromb.2"],
        "INTO3": [
            "FROMB 1 fromb.* to.{{wildcard(1)}} fromb.1",
            "FROMB 2 fromb.* to.{{wildcard(1)}} fromb.2",
        ],
        "INTO4": ["INTO3 1 > > to.1", "INTO3 2 > > to.2"],
    }
    for name, texts in expected.items():
        await api.until(name, len(texts), 1, len(texts))
        assert await api.source_headers(name) == texts
    await api.publish("into1")
    await api.until("INTO1", 3, 1, 3)
    assert (await api.js.get_msg("INTO1", 3)).headers is None


async def test_a_work_queue_gives_its_messages_away(jetstream_server, connect):
    api = await connect(jetstream_server)
    await api.create("WORK", subjects=["work.*"], retention="workqueue")
    await api.publish("work.a", "work.b", "work.a")
    await api.create("WORKS", sources=[{"name": "WORK", "filter_subject": "work.a"}])
    await api.until("WORKS", 2, 1, 2)
    await api.until("WORK", 1, 2, 3)
    await api.publish("work.a")
    await api.until("WORKS", 3, 1, 3)
    await api.until("WORK", 1, 2, 4)


async def test_a_mirror_is_interest(jetstream_server, connect):
    api = await connect(jetstream_server)
    await api.create("CARE", subjects=["care.*"], retention="interest")
    await api.create("CAREM", mirror={"name": "CARE"})
    await api.create("CARES", sources=[{"name": "CARE", "filter_subject": "care.b"}])
    for name, info in (("CAREM", "mirror"), ("CARES", "sources")):
        while True:
            found = (await api.call(f"STREAM.INFO.{name}"))[info]
            if (found[0] if info == "sources" else found)["active"] >= 0:
                break
    await api.publish("care.a", "care.b")
    await api.until("CAREM", 2, 1, 2)
    await api.until("CARES", 1, 1, 1)
    await api.until("CARE", 0, 3, 2)
    consumer = {"durable_name": "C", "ack_policy": "explicit"}
    await api.call("CONSUMER.CREATE.CARE.C", stream_name="CARE", config=consumer)
    await api.publish("care.a", "care.b")
    await api.until("CAREM", 4, 1, 4)
    assert await api.state("CARE") == (2, 3, 4)


async def test_information_names_the_origins(jetstream_server, connect):
    api = await connect(jetstream_server)
    await api.create("TOLD", subjects=["told.*"])
    await api.publish("told.a", "told.b", "told.a")
    await api.create("TOLDM", mirror={"name": "TOLD"})
    await api.create("TOLDS", sources=[{"name": "TOLD", "filter_subject": "told.a"}, {"name": "TOLDNOT"}])
    await api.until("TOLDM", 3, 1, 3)
    await api.until("TOLDS", 2, 1, 2)
    mirror = (await api.call("STREAM.INFO.TOLDM"))["mirror"]
    assert 0 <= mirror.pop("active") < 10**10
    assert mirror == {"name": "TOLD", "lag": 0}

    async def missing_is_told():
        found = (await api.call("STREAM.INFO.TOLDS"))["sources"]
        return sorted(found, key=lambda one: one["name"]) if any("error" in one for one in found) else None

    while (sources := await missing_is_told()) is None:
        pass
    assert 0 <= sources[0].pop("active") < 10**10
    assert sources == [
        {"name": "TOLD", "lag": 0, "seq": 3, "filter_subject": "told.a"},
        {
            "name": "TOLDNOT",
            "lag": 0,
            "active": -1,
            "error": {"code": 404, "err_code": 10059, "description": "stream not found"},
        },
    ]
    assert "mirror" not in await api.call("STREAM.INFO.TOLD")
    assert (await api.call("CONSUMER.NAMES.TOLD"))["consumers"] == []


async def test_origins_may_come_late_be_purged_and_be_made_anew(jetstream_server, connect):
    api = await connect(jetstream_server)
    await api.create("LATEM", mirror={"name": "LATE"})
    await api.create("LATES", sources=[{"name": "LATE"}])
    await api.create("LATE", subjects=["late.*"])
    await api.publish("late.a", "late.b", "late.c")
    await api.until("LATEM", 3, 1, 3)
    await api.until("LATES", 3, 1, 3)
    await api.call("STREAM.PURGE.LATE")
    await api.publish("late.d")
    await api.until("LATEM", 4, 1, 4)
    await api.until("LATES", 4, 1, 4)
    # Both may be purged, too, and go on all the same.
    await api.call("STREAM.PURGE.LATEM")
    await api.call("STREAM.PURGE.LATES")
    await api.publish("late.e")
    await api.until("LATEM", 1, 5, 5)
    await api.until("LATES", 1, 5, 5)
    await api.call("STREAM.DELETE.LATE")
    await api.create("LATE", subjects=["late.*"])
    await api.publish("late.f")
    await api.until("LATES", 2, 5, 6)  # another stream of that name: from its beginning
    assert await api.state("LATEM") == (1, 5, 5)  # which a mirror cannot tell


@pytest.mark.servers("midge-1", "midge-2", "midge-4")
async def test_a_mirror_answers_direct_gets_for_an_origin_that_is_gone(jetstream_server, connect):
    """Where both are there nats-server lets either answer; here it is the origin."""
    api = await connect(jetstream_server)
    await api.create("NEAR", subjects=["near"], allow_direct=True)
    await api.publish("near")
    await api.create("NEARM", mirror={"name": "NEAR"}, mirror_direct=True)
    await api.until("NEARM", 1, 1, 1)

    async def answerer():
        try:
            answer = await api.client.request("$JS.API.DIRECT.GET.NEAR", b'{"seq":1}', timeout=5)
        except nats.errors.NoRespondersError:
            return None
        return answer.headers["Nats-Stream"]

    assert await answerer() == "NEAR"
    await api.call("STREAM.DELETE.NEAR")
    while (name := await answerer()) is None:
        pass
    assert name == "NEARM"


async def test_a_mirror_becomes_a_stream_of_its_own(jetstream_server, connect):
    api = await connect(jetstream_server)
    await api.create("PROMO", subjects=["promo"])
    await api.publish("promo")
    config = (await api.create("PROMM", mirror={"name": "PROMO"}))["config"]
    await api.until("PROMM", 1, 1, 1)
    del config["mirror"]
    answer = await api.call("STREAM.UPDATE.PROMM", **{**config, "subjects": ["promm"]})
    assert "mirror" not in answer
    await api.publish("promo", "promm")
    assert await api.state("PROMM") == (2, 1, 2)


async def test_sources_come_and_go_with_the_configuration(jetstream_server, connect):
    api = await connect(jetstream_server)
    for name in ("COMEA", "COMEB"):
        await api.create(name, subjects=[name.lower()])
        await api.publish(name.lower())
    config = (await api.create("COME", sources=[{"name": "COMEA"}]))["config"]
    await api.until("COME", 1, 1, 1)
    await api.call("STREAM.UPDATE.COME", **{**config, "sources": [{"name": "COMEB"}]})
    await api.until("COME", 2, 1, 2)
    await api.publish("comea", "comeb")
    await api.until("COME", 3, 1, 3)
    both = [{"name": "COMEA"}, {"name": "COMEB"}]
    await api.call("STREAM.UPDATE.COME", **{**config, "sources": both})
    await api.until("COME", 4, 1, 4)  # goes on where it was when it went
    assert (await api.source_headers("COME"))[3] == "COMEA 2 > > comea"


async def test_counters_add_up_what_their_sources_say(jetstream_server, connect):
    api = await connect(jetstream_server)
    for name in ("SUMA", "SUMB"):
        await api.create(name, subjects=[f"{name.lower()}.x"], allow_msg_counter=True)
    sources = [
        {"name": name, "subject_transforms": [{"src": f"{name.lower()}.x", "dest": "sum.x"}]}
        for name in ("SUMA", "SUMB")
    ]
    await api.create("SUM", sources=sources, allow_msg_counter=True, allow_direct=True)
    for subject, increment in (("suma.x", "+1"), ("sumb.x", "10"), ("suma.x", "-3"), ("sumb.x", "7")):
        await api.js.publish(subject, b"", headers={"Nats-Incr": increment})
    await api.until("SUM", 4, 1, 4)
    last = await api.js.get_last_msg("SUM", "sum.x")
    assert json.loads(last.data) == {"val": "15"}
    kept = json.loads(last.headers["Nats-Counter-Sources"])
    assert kept == {"SUMA": {"suma.x": "-2"}, "SUMB": {"sumb.x": "17"}}


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_both_go_on_after_a_restart(start, connect, end):
    server = start(jetstream=True)
    api = await connect(server)
    await api.create("BACKO", subjects=["back.*"])
    await api.create("BACKM", mirror={"name": "BACKO"})
    await api.create("BACKS", sources=[{"name": "BACKO"}], max_msgs=3)
    await api.create("BACKP", sources=[{"name": "BACKO"}])
    await api.publish(*(f"back.{number}" for number in range(10)))
    await api.until("BACKM", 10, 1, 10)
    await api.until("BACKS", 3, 8, 10)
    await api.until("BACKP", 10, 1, 10)
    await api.call("STREAM.PURGE.BACKP")
    await api.client.close()
    getattr(server, end)()
    server.start_again()
    api = await connect(server)
    await api.publish("back.a")
    await api.until("BACKM", 11, 1, 11)
    await api.until("BACKS", 3, 9, 11)
    await api.until("BACKP", 1, 11, 11)


@pytest.mark.servers("midge-1", "midge-2", "midge-4")
async def test_killed_workers_lose_and_double_nothing(start, connect):
    server = start(jetstream=True)
    options = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.05}
    api = await connect(server, **options)
    pairs, count = 4, 300
    for number in range(pairs):
        await api.create(f"DIEO{number}", subjects=[f"die.{number}"])
        await api.create(f"DIEM{number}", mirror={"name": f"DIEO{number}"})
        sources = [{"name": f"DIEO{number}"}, {"name": f"DIEO{(number + 1) % pairs}"}]
        await api.create(f"DIES{number}", sources=sources)

    async def publish(number):
        publisher = await connect(server, **options)
        for sent in range(count):
            while True:
                try:
                    headers = {"Nats-Msg-Id": f"{sent}"}
                    await publisher.js.publish(f"die.{number}", b"%d" % sent, timeout=2, headers=headers)
                    break
                except (TimeoutError, nats.errors.Error):
                    await asyncio.sleep(0)

    publishing = [asyncio.ensure_future(publish(number)) for number in range(pairs)]
    for turn in range(2 * server.worker_count):
        process = server.workers()[turn % server.worker_count]
        os.kill(process.pid, signal.SIGKILL)
        await wait_until_async(
            lambda gone=process: not gone.is_running() and len(server.workers()) == server.worker_count,
            "the worker to be replaced",
            TIMEOUT_S,
        )
    await asyncio.gather(*publishing)
    api = await connect(server, **options)
    for number in range(pairs):
        await api.until(f"DIEM{number}", count, 1, count)
        await api.until(f"DIES{number}", 2 * count, 1, 2 * count)
        for sequence in (1, count // 2, count):
            message = await api.js.get_msg(f"DIEM{number}", sequence)
            assert message.data == b"%d" % (sequence - 1)
        taken = {}
        for text in await api.source_headers(f"DIES{number}"):
            name, sequence, *_ = text.split(" ")
            taken.setdefault(name, []).append(int(sequence))
        assert list(taken.values()) == [list(range(1, count + 1))] * 2
