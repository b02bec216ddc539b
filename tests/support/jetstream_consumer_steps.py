"""Random doings with consumers: streams that keep messages for them, pulls, pushes, acknowledgements, waits.

A step is one thing that a client or an operator does. Names begin with MARK, which the runner replaces. What
depends on time stands together: a consumer with a short ack wait is pulled from, and then everybody waits
until all that was not acknowledged has come due.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, field
from typing import Any

from support.jetstream_steps import MARK

SECOND_NS = 1_000_000_000
MS_NS = 1_000_000
STREAMS_MAX = 3
CONSUMERS_MAX = 4
SHORT_WAIT_NS = 500 * MS_NS
LONG_WAIT_NS = 3600 * SECOND_NS
# Longer than the short ack wait by what a busy machine may be late.
WAIT_MS = 900
TOKENS = ("a", "b", "c")

API, PUBLISH, PULL, ACK, LISTEN, IGNORE, WAIT, RESTART = (
    "api",
    "publish",
    "pull",
    "ack",
    "listen",
    "ignore",
    "wait",
    "restart",
)
Body = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        kind: of the constants above. name: of an API call, a subject, or `<stream>.<consumer>`.
        payload: what is sent. index: of an ACK: which of the consumer's deliveries so far is acknowledged.
        wants_answer: an ACK is confirmed. headers: of a message.
    """

    kind: str
    name: str = ""
    payload: str = ""
    index: int = 0
    wants_answer: bool = False
    headers: list[list[str]] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class ConsumerGenerator:
    """Makes steps, guided by how many messages each consumer has delivered so far."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._queue: list[Step] = []
        self._streams: dict[str, Body] = {}
        self._consumers: dict[tuple[str, str], Body] = {}
        self._made = 0
        # By `<stream>.<consumer>`, kept by who runs the steps.
        self.delivered: dict[str, int] = {}

    def next(self) -> Step:
        """Return the next step."""
        while not self._queue:
            chosen = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            self._queue += chosen(self)
        return self._queue.pop(0)

    def refused(self, step: Step) -> None:
        """Take note that a call was refused."""
        parts = step.name.split(".")
        if parts[:2] == ["STREAM", "CREATE"]:
            self._streams.pop(parts[2], None)
        elif parts[:2] == ["CONSUMER", "CREATE"] and '"action": "create"' in step.payload:
            self._consumers.pop((parts[2], parts[3]), None)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _api(self, call: str, body: object = None) -> list[Step]:
        return [Step(API, call, "" if body is None else json.dumps(body))]

    def _number(self) -> int:
        self._made += 1
        return self._made

    # ---- streams

    def create_stream(self) -> list[Step]:
        if len(self._streams) >= STREAMS_MAX:
            return self.delete_stream() if self._chance(0.3) else []
        name = f"{MARK}S{self._number()}"
        config: Body = {
            "name": name,
            "subjects": [f"{name}.>"],
            "storage": self._random.choice(["file", "memory"]),
            "retention": self._random.choice(["limits", "limits", "interest", "workqueue"]),
        }
        if self._chance(0.2):
            config["max_msgs_per_subject"] = self._random.choice([1, 3])
        if self._chance(0.2):
            config["max_msgs"] = self._random.choice([5, 20])
        if config["storage"] == "memory":
            config["max_bytes"] = 1 << 20
        self._streams[name] = config
        return self._api(f"STREAM.CREATE.{name}", config) + self._publishes(name, self._random.randint(0, 12))

    def delete_stream(self) -> list[Step]:
        name = self._stream()
        if not name:
            return []
        del self._streams[name]
        self._consumers = {key: config for key, config in self._consumers.items() if key[0] != name}
        return self._api(f"STREAM.DELETE.{name}")

    def _stream(self) -> str:
        return self._random.choice(list(self._streams)) if self._streams else ""

    def _subject(self, stream: str) -> str:
        tokens = [self._random.choice(TOKENS) for _ in range(self._random.choice([1, 1, 2]))]
        return ".".join([stream, *tokens])

    def _publishes(self, stream: str, count: int) -> list[Step]:
        steps = []
        for _ in range(count):
            headers = [["A", "x" * self._random.randint(0, 9)]] if self._chance(0.2) else []
            payload = "m" * self._random.choice([0, 1, 10, 100])
            steps.append(Step(PUBLISH, self._subject(stream), payload, headers=headers))
        return steps

    def publish(self) -> list[Step]:
        stream = self._stream()
        return self._publishes(stream, self._random.randint(1, 4)) if stream else []

    def remove(self) -> list[Step]:
        stream = self._stream()
        # With ack policy all nats-server takes the end of a message for the acknowledgement of all before it.
        if not stream or any(
            key[0] == stream and c["ack_policy"] == "all" for key, c in self._consumers.items()
        ):
            return []
        if self._chance(0.8):
            return self._api(f"STREAM.MSG.DELETE.{stream}", {"seq": self._random.randint(1, 30)})
        # Purges of some messages make nats-server forget what else it was to deliver again.
        return self._api(f"STREAM.PURGE.{stream}")

    def stream_info(self) -> list[Step]:
        stream = self._stream()
        return self._api(f"STREAM.INFO.{stream}", {"deleted_details": True}) if stream else []

    # ---- consumers

    def create_consumer(self) -> list[Step]:
        stream = self._stream()
        if not stream:
            return []
        if sum(key[0] == stream for key in self._consumers) >= CONSUMERS_MAX:
            return self.delete_consumer()
        name = f"C{self._number()}"
        config = self._consumer_config(stream, name)
        self._consumers[stream, name] = config
        body = {"stream_name": stream, "config": config, "action": "create"}
        steps = self._api(f"CONSUMER.CREATE.{stream}.{name}", body)
        if "deliver_subject" in config and self._chance(0.9):
            group = config.get("deliver_group", "")
            listen = Step(LISTEN, config["deliver_subject"], group)
            steps = [listen, *steps] if self._chance(0.5) else [*steps, listen]
        return steps + self._info(stream, name)

    def _consumer_config(self, stream: str, name: str) -> Body:
        pick = self._random.choice
        is_work_queue = self._streams[stream].get("retention") == "workqueue"
        limited = {"max_msgs_per_subject", "max_msgs"} & set(self._streams[stream])
        ack = (
            "explicit"
            if is_work_queue
            else pick(["explicit", "explicit", "none", "all"][: 3 if limited else 4])
        )
        config: Body = {"name": name, "durable_name": name, "ack_policy": ack}
        if ack != "none":
            config["ack_wait"] = LONG_WAIT_NS
        if not is_work_queue:
            config.update(self._start(stream))
        if self._chance(0.5):
            config.update(self._filters(stream))
        if self._chance(0.3):
            config["max_deliver"] = pick([1, 2, 3, 5])
        if self._chance(0.3) and ack != "none":
            config["max_ack_pending"] = pick([1, 2, 5, -1])
        if self._chance(0.1):
            config["headers_only"] = True
        if self._chance(0.3):
            config["deliver_subject"] = f"{MARK}push.{name}"
            if self._chance(0.2):
                config["deliver_group"] = "g"
        else:
            if self._chance(0.1):
                config["max_waiting"] = 2
            if self._chance(0.1):
                config["max_batch"] = 3
            if ack != "none" and self._chance(0.35):
                config["ack_wait"] = SHORT_WAIT_NS
                if self._chance(0.3):
                    config["backoff"] = [SHORT_WAIT_NS, SHORT_WAIT_NS]
                    config["max_deliver"] = pick([2, 3, 5])
        return config

    def _start(self, stream: str) -> Body:
        policy = self._random.choice(
            ["all", "all", "all", "last", "new", "by_start_sequence", "last_per_subject", "by_start_time"]
        )
        config: Body = {"deliver_policy": policy}
        if policy == "by_start_sequence":
            config["opt_start_seq"] = self._random.choice([1, 2, 3])
        elif policy == "by_start_time":
            config["opt_start_time"] = self._random.choice(["2001-01-01T00:00:00Z", "2099-01-01T00:00:00Z"])
        elif policy == "last_per_subject":
            config["filter_subject"] = self._random.choice([f"{stream}.*", f"{stream}.>", f"{stream}.a"])
        return config

    def _filters(self, stream: str) -> Body:
        choices: list[Body] = [
            {"filter_subject": f"{stream}.a"},
            {"filter_subject": f"{stream}.*"},
            {"filter_subject": f"{stream}.*.b"},
            {"filter_subject": f"{stream}.none"},
            {"filter_subjects": [f"{stream}.a", f"{stream}.b.>"]},
            {"filter_subjects": [f"{stream}.*.a", f"{stream}.c"]},
        ]
        return dict(self._random.choice(choices))

    def _consumer(self, *, pulls: bool = False) -> tuple[str, str] | None:
        fitting = [k for k, config in self._consumers.items() if not pulls or "deliver_subject" not in config]
        return self._random.choice(fitting) if fitting else None

    def _info(self, stream: str, name: str) -> list[Step]:
        return self._api(f"CONSUMER.INFO.{stream}.{name}")

    def info(self) -> list[Step]:
        one = self._consumer()
        return self._info(*one) if one else []

    def list_all(self) -> list[Step]:
        stream = self._stream()
        return self._api(f"CONSUMER.{self._random.choice(['LIST', 'NAMES'])}.{stream}") if stream else []

    def delete_consumer(self) -> list[Step]:
        one = self._consumer()
        if one is None:
            return []
        del self._consumers[one]
        return self._api("CONSUMER.DELETE.{}.{}".format(*one)) + self._api(f"STREAM.INFO.{one[0]}")

    def update_consumer(self) -> list[Step]:
        one = self._consumer()
        if one is None:
            return []
        config = dict(self._consumers[one])
        change = self._random.randrange(4)
        if change == 0:
            config["max_ack_pending"] = self._random.choice([1, 3, 100])
        elif change == 1:
            if self._streams[one[0]]["retention"] == "interest" and self.delivered.get(".".join(one)):
                # What goes then stays pending in nats-server: who wants the subject no more is not told.
                return []
            config.pop("filter_subject", None)
            config.pop("filter_subjects", None)
            config.update(self._filters(one[0]))
        elif change == 2:
            config["max_deliver"] = self._random.choice([2, 4, -1])
        else:
            config["description"] = "changed"
        body = {"stream_name": one[0], "config": config, "action": self._random.choice(["", "update"])}
        if change == 0 and config["ack_policy"] == "none":
            return []
        self._consumers[one] = config
        return self._api("CONSUMER.CREATE.{}.{}".format(*one), body) + self._info(*one)

    def pause(self) -> list[Step]:
        one = self._consumer()
        if one is None:
            return []
        pause = "CONSUMER.PAUSE.{}.{}".format(*one)
        # Nothing comes in between: resumed consumers of nats-server wait for something to wake them.
        steps = self._api(pause, {"pause_until": "2099-01-01T00:00:00Z"}) + self._info(*one)
        return steps + self._api(pause) + self._info(*one)

    def reset(self) -> list[Step]:
        one = self._consumer(pulls=True)
        if one is None:
            return []
        reset = "CONSUMER.RESET.{}.{}".format(*one)
        return self._api(reset, {"seq": self._random.randint(1, 20)}) + self._info(*one)

    # ---- messages

    def pull(self) -> list[Step]:
        one = self._consumer(pulls=True)
        if one is None:
            return []
        config = self._consumers[one]
        body: Body = {"batch": self._random.choice([1, 2, 3, 5, 10])}
        if self._chance(0.2):
            body["max_bytes"] = self._random.choice([50, 200, 500])
        is_short = config.get("ack_wait") == SHORT_WAIT_NS
        if is_short or self._chance(0.6):
            body["no_wait"] = True
        else:
            body["expires"] = 600 * SECOND_NS
        steps = [Step(PULL, "{}.{}".format(*one), json.dumps(body))]
        if not is_short:
            return steps
        for _ in range(self._random.randint(0, 3)):
            steps += self._ack(one)
        return [*steps, Step(WAIT, index=WAIT_MS), *self._info(*one)]

    def expiring_pull(self) -> list[Step]:
        one = self._consumer(pulls=True)
        if one is None or self._consumers[one].get("ack_wait") == SHORT_WAIT_NS:
            return []
        body = {"batch": 20, "expires": 200 * MS_NS, "no_wait": self._chance(0.5)}
        return [Step(PULL, "{}.{}".format(*one), json.dumps(body)), Step(WAIT, index=500), *self._info(*one)]

    def _ack(self, one: tuple[str, str]) -> list[Step]:
        key = "{}.{}".format(*one)
        delivered = self.delivered.get(key, 0)
        if self._consumers[one].get("ack_wait") == SHORT_WAIT_NS:
            delivered += 2
        if delivered == 0:
            return []
        # The last ones mostly, an old one at times.
        index = self._random.randint(max(0, delivered - 6), delivered - 1)
        if self._chance(0.1):
            index = self._random.randrange(delivered)
        payload = self._random.choice(
            ["", "+ACK", "+ACK", "+ACK", "+OK", "-NAK", "-NAK", "+TERM", "+TERM why", "+WPI", "nonsense"]
        )
        if self._chance(0.1):
            return [Step(ACK, key, '-NAK {"delay": 100000000}', index, True), Step(WAIT, index=400)]
        is_pull = "deliver_subject" not in self._consumers[one]
        if is_pull and self._chance(0.1):
            return [Step(ACK, key, '+NXT {"batch": 2, "no_wait": true}', index)]
        return [Step(ACK, key, payload, index, True)]

    def ack(self) -> list[Step]:
        one = self._consumer()
        if one is None or self._consumers[one].get("ack_wait") == SHORT_WAIT_NS:
            return []
        steps = []
        for _ in range(self._random.randint(1, 4)):
            steps += self._ack(one)
        return steps + self._info(*one) if self._chance(0.5) else steps

    def listen(self) -> list[Step]:
        pushed = [c for c in self._consumers.values() if "deliver_subject" in c]
        if not pushed:
            return []
        config = self._random.choice(pushed)
        group = config.get("deliver_group", "")
        steps = [Step(IGNORE, config["deliver_subject"])]
        if self._chance(0.7):
            steps += [Step(WAIT, index=300), Step(LISTEN, config["deliver_subject"], group)]
        return steps

    def restart(self) -> list[Step]:
        """Return steps that restart the broker and look at everything."""
        steps = [Step(RESTART)]
        for stream in self._streams:
            steps += self._api(f"STREAM.INFO.{stream}") + self._api(f"CONSUMER.NAMES.{stream}")
        for one in self._consumers:
            steps += self._info(*one)
        return steps


WEIGHTS = {
    ConsumerGenerator.create_stream: 5,
    ConsumerGenerator.delete_stream: 0.5,
    ConsumerGenerator.publish: 12,
    ConsumerGenerator.remove: 3,
    ConsumerGenerator.stream_info: 4,
    ConsumerGenerator.create_consumer: 6,
    ConsumerGenerator.update_consumer: 3,
    ConsumerGenerator.delete_consumer: 1.5,
    ConsumerGenerator.pause: 0.7,
    ConsumerGenerator.reset: 0.7,
    ConsumerGenerator.info: 5,
    ConsumerGenerator.list_all: 2,
    ConsumerGenerator.pull: 12,
    ConsumerGenerator.expiring_pull: 0.4,
    ConsumerGenerator.ack: 12,
    ConsumerGenerator.listen: 0.5,
}
