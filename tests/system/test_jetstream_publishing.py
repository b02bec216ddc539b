"""What publishers were promised holds after the broker stops, cleanly or by kill -9, and starts again."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.broker import Broker
from support.jetstream_client import JetStreamClient
from support.wait import wait_until

pytestmark = pytest.mark.servers("midge-1", "midge-2")

Restart = Callable[[], JetStreamClient]


@pytest.fixture
def broker(kind: str, tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(kind, tmp_path, jetstream=True)
    yield broker
    broker.stop()


def connect(broker: Broker) -> JetStreamClient:
    return JetStreamClient(broker.connect().handshake(headers=True, no_responders=True))


@pytest.fixture(params=["stopped", "killed"])
def restart(request: pytest.FixtureRequest, broker: Broker) -> Iterator[Restart]:
    """A function that ends the broker and starts it again; returns a client. The first call only connects."""
    clients: list[JetStreamClient] = []

    def again() -> JetStreamClient:
        if clients:
            clients[-1].client.close()
            if request.param == "killed":
                family = broker.processes()
                for process in family:
                    process.send_signal(signal.SIGKILL)
                broker.process.wait()
                wait_until(
                    lambda: not any(one.is_running() and one.status() != "zombie" for one in family), "end"
                )
            else:
                broker.stop()
            broker.start_again()
        clients.append(connect(broker))
        return clients[-1]

    yield again
    clients[-1].client.close()


def test_a_duplicate_is_known_after_a_restart(restart: Restart) -> None:
    js = restart()
    js.create("IDS", subjects=["ids.>"])
    acks = [js.publish("ids.a", b"", (("Nats-Msg-Id", str(number)),))["seq"] for number in range(50)]
    assert acks == list(range(1, 51))
    js = restart()
    for number in (0, 25, 49):
        ack = js.publish("ids.a", b"", (("Nats-Msg-Id", str(number)),))
        assert ack == {"stream": "IDS", "seq": number + 1, "duplicate": True}
    assert js.publish("ids.a", b"", (("Nats-Expected-Last-Msg-Id", "49"),))["seq"] == 51


def test_counters_and_expectations_go_on_after_a_restart(restart: Restart) -> None:
    js = restart()
    js.create("COUNT", subjects=["count.>"], allow_msg_counter=True)
    assert js.publish("count.a", b"", (("Nats-Incr", "40"),))["val"] == "40"
    js = restart()
    assert js.publish("count.a", b"", (("Nats-Incr", "2"),)) == {"stream": "COUNT", "seq": 2, "val": "42"}


def test_a_schedule_fires_after_a_restart(restart: Restart) -> None:
    js = restart()
    js.create("LATER", subjects=["later.>"], allow_msg_schedules=True)
    schedule = (("Nats-Schedule", "@every 1s"), ("Nats-Schedule-Target", "later.t"))
    js.publish("later.s", b"x", schedule)
    js = restart()
    seen = js.info("LATER")["state"]["last_seq"]
    wait_until(lambda: js.info("LATER")["state"]["last_seq"] > seen, "the schedule to fire", 20)
    last = js.api("STREAM.MSG.GET.LATER", {"last_by_subj": "later.t"})["message"]
    assert last["data"] == "eA=="


def test_a_ttl_counts_on_through_a_restart(restart: Restart) -> None:
    js = restart()
    js.create("TTL", subjects=["ttl.>"], allow_msg_ttl=True)
    js.publish("ttl.a", b"", (("Nats-TTL", "1s"),))
    js.publish("ttl.a", b"", (("Nats-TTL", "1h"),))
    js = restart()
    wait_until(lambda: js.info("TTL")["state"]["messages"] == 1, "the first one's end", 20)


def test_a_committed_batch_is_whole_after_a_restart_and_an_open_one_is_gone(restart: Restart) -> None:
    js = restart()
    js.create("BATCH", subjects=["batch.>"], allow_atomic=True)

    def send(name: str, number: int, *more: tuple[str, str]) -> bytes:
        headers = (("Nats-Batch-Id", name), ("Nats-Batch-Sequence", str(number)), *more)
        [answer] = js.ask("batch.a", b"x", headers)
        return answer.payload

    for number in range(1, 100):
        assert send("whole", number) == b""
    assert send("open", 1) == b""
    assert b'"count":100' in send("whole", 100, ("Nats-Batch-Commit", "1"))
    js = restart()
    assert js.info("BATCH")["state"]["messages"] == 100
    assert b"10176" in send("open", 2, ("Nats-Batch-Commit", "1"))
