"""Messages with random headers in streams with random features get the answers that nats-server gives.

The tables of test_jetstream_publishing.py take the rules one by one; here they meet. A seed that fails is run
again by `-k <seed>`; MIDGE_PUBLISH_SEEDS asks for more of them than CI does.
"""

import os
from collections.abc import Iterator
from random import Random

import pytest
from support.broker import Broker
from support.jetstream_publishes import BrokerRunner, Publish, PublisherRunner

pytestmark = pytest.mark.servers("nats-server")

SEEDS = int(os.environ.get("MIDGE_PUBLISH_SEEDS", "12"))
MESSAGES = 120
NUMBERS = ("0", "1", "2", "3", "5", "8", "x")
HEADERS = {
    "Nats-Msg-Id": ("1", "2", "3", "4", ""),
    "Nats-Expected-Stream": ("@", "@", "other"),
    "Nats-Expected-Last-Sequence": NUMBERS,
    "Nats-Expected-Last-Subject-Sequence": NUMBERS,
    "Nats-Expected-Last-Subject-Sequence-Subject": ("@.a", "@.b", "@.*"),
    "Nats-Expected-Last-Msg-Id": ("1", "2", "3"),
    "Nats-Rollup": ("sub", "all", "x"),
    "Nats-TTL": ("1h", "never", "100", "x", "0"),
    "Nats-Incr": ("1", "-5", "+7", "x"),
    "Nats-Schedule": ("@at 2999-01-01T00:00:00Z", "@every 1h", "0 0 0 1 1 *", "x"),
    "Nats-Schedule-Target": ("@.t", "@.a", "other"),
    "Nats-Schedule-TTL": ("1h", "x"),
    "Nats-Scheduler": ("@.a", "@.b"),
    "Nats-Schedule-Next": ("purge", "x"),
    "Nats-Stream-Source": ("x",),
    "Nats-Batch-Id": ("B", "C"),
    "Nats-Batch-Sequence": ("1", "2", "3"),
    "Nats-Batch-Commit": ("1", "eob", "x"),
    "Nats-Required-Api-Level": ("2", "99"),
    "Other": ("x", "yy"),
}
FEATURES = {
    "allow_rollup_hdrs": (True, False),
    "allow_msg_ttl": (True, False),
    "allow_atomic": (True, False),
    "allow_batched": (True, False),
    "max_msgs_per_subject": (-1, 1, 3),
    "max_msgs": (-1, -1, 10),
    "max_msg_size": (-1, -1, 150),
    "discard": ("old", "old", "new"),
    "retention": ("limits", "limits", "interest", "workqueue"),
    "storage": ("file", "memory"),
}


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerRunner]:
    broker = Broker("nats-server", tmp_path_factory.mktemp("oracle"), jetstream=True)
    runner = BrokerRunner(broker)
    yield runner
    runner.close()
    broker.stop()


def random_config(rng: Random) -> dict[str, object]:
    config: dict[str, object] = {name: rng.choice(values) for name, values in FEATURES.items()}
    kind = rng.random()
    if kind < 0.2:
        config |= {"allow_msg_counter": True, "discard": "old", "retention": "limits", "allow_msg_ttl": False}
    elif kind < 0.4:
        config |= {"allow_msg_schedules": True, "discard": "old", "retention": "limits"}
    return config


class Script:
    """Makes messages with a few random headers; some are parts of fast batches.

    A fast batch never goes back in its numbers and never expects a last id: nats-server stops answering a
    batch when a message with such an expectation is refused, or comes again after one that was refused.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._batch = self._number = 0
        self._gap = "ok"

    def message(self) -> Publish:
        rng = self._rng
        names = [name for name in HEADERS if rng.random() < 0.12]
        if "Nats-Batch-Id" in names or rng.random() < 0.1:
            names = [name for name in names if not name.startswith("Nats-Batch")]
            names += ["Nats-Batch-Id", "Nats-Batch-Sequence"] + ["Nats-Batch-Commit"] * (rng.random() < 0.3)
        rng.shuffle(names)
        reply = self._fast_reply() if rng.random() < 0.25 else ""
        if reply and "Nats-Expected-Last-Msg-Id" in names:
            names.remove("Nats-Expected-Last-Msg-Id")
        headers = tuple((name, rng.choice(HEADERS[name])) for name in names)
        return Publish(rng.choice("aaabc"), b"x" * rng.choice((0, 0, 1, 90)), headers, reply)

    def _fast_reply(self) -> str:
        rng = self._rng
        if not self._batch or rng.random() < 0.2:
            self._batch, self._number, self._gap = self._batch + 1, 1, rng.choice(("ok", "fail"))
            operation = rng.choice((0, 0, 0, 2))
        else:
            operation = rng.choice((1, 1, 1, 1, 2, 3, 4))
            self._number += (1 if rng.random() < 0.9 else 3) * (operation != 4)
        return f"R.@.F{self._batch}.{rng.choice((1, 3))}.{self._gap}.{self._number}.{operation}.$FI"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_messages_are_answered_as_nats_server_does(oracle: BrokerRunner, seed: int) -> None:
    rng = Random(seed)
    config = random_config(rng)
    messages = Script(rng)
    script = [messages.message() for _ in range(MESSAGES)]
    stream = f"RANDOM{seed}"
    expected = oracle.run(stream, config, script)
    found = PublisherRunner(oracle).run(stream, config, script)
    for number, (mine, theirs) in enumerate(zip(found.answers, expected.answers, strict=False)):
        assert mine == theirs, f"{config}, answer {number}, script {script}"
    assert len(found.answers) == len(expected.answers)
    assert found.stored == expected.stored
    assert found.state == expected.state
