"""Random requests to JetStream: streams of every configuration, publishes, reads and mistakes.

A step is what a client would send. Nothing in it depends on the time, so that two brokers can be asked the
same: ages, time to live and schedules are far longer than a test, and a name of a stream is used once. Every
name of a stream or subject begins with MARK, which the runner replaces by a text of its own for each run.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

MARK = "~"
CONNECTIONS = 4
SECOND_NS = 1_000_000_000
HOUR_NS = 3600 * SECOND_NS
TOKENS = ("a", "b", "c", "d1")
STREAMS_MAX = 8
BATCHES_LEFT_OPEN_MAX = 3

Config = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One request.

    Attributes:
        subject, payload, headers: what is sent, with MARK in names.
        is_batch: whether messages come until one has a status.
        connection: which of CONNECTIONS sends it.
    """

    subject: str
    payload: str = ""
    headers: list[list[str]] = field(default_factory=list)
    is_batch: bool = False
    connection: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Known:
    """What the generator knows of a stream from the oracle's answers."""

    config: Config
    last: int = 0
    subjects: dict[str, int] = field(default_factory=dict)
    open_batches: int = 0


class Generator:
    """Makes steps; it learns what the oracle answers to one before the next, so that most have a point."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._streams: dict[str, Known] = {}
        self._created = 0
        self._batches = 0
        self._queue: list[Step] = []

    def next(self) -> Step:
        """Return the next step."""
        if not self._queue:
            chosen = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            self._queue += chosen(self)
        return self._queue.pop(0)

    def learn(self, step: Step, answer: dict[str, Any] | None) -> None:
        """Take the oracle's answer to a step: its JSON, None if it has none."""
        if answer is None or "error" in answer:
            return
        name = step.subject.rsplit(".", 1)[-1]
        if "STREAM.CREATE" in step.subject:
            self._streams.setdefault(name, Known(answer["config"])).config = answer["config"]
        elif "STREAM.UPDATE" in step.subject:
            self._streams[name].config = answer["config"]
        elif "STREAM.DELETE" in step.subject:
            del self._streams[name]
        elif answer.get("stream") in self._streams and "seq" in answer:
            known = self._streams[answer["stream"]]
            known.last = answer["seq"]
            known.subjects[step.subject] = answer["seq"]

    # ---- what is picked from

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _stream(self) -> str:
        if not self._streams or self._chance(0.02):
            return MARK + "NONE"
        return self._random.choice(list(self._streams))

    def _stream_with(self, switch: str) -> str:
        """A stream that has a feature on, if there is one, most of the time."""
        fitting = [name for name, known in self._streams.items() if known.config.get(switch)]
        return self._random.choice(fitting) if fitting and self._chance(0.8) else self._stream()

    def _config(self, name: str) -> Config:
        return self._streams[name].config if name in self._streams else {}

    def _pattern(self, name: str) -> str:
        return self._random.choice(self._config(name).get("subjects") or [MARK + "x.>"])

    def _literal(self, name: str) -> str:
        """A subject that a stream takes, most of the time."""
        tokens = []
        for token in self._pattern(name).split("."):
            if token == ">":
                tokens += [self._random.choice(TOKENS) for _ in range(self._random.randint(1, 2))]
            else:
                tokens.append(self._random.choice(TOKENS) if token == "*" else token)
        return ".".join(tokens)

    def _stored(self, name: str) -> str:
        known = self._streams.get(name)
        if known and known.subjects and self._chance(0.8):
            return self._random.choice(list(known.subjects))
        return self._literal(name)

    def _filter(self, name: str) -> str:
        return self._random.choice(
            [self._stored(name), self._pattern(name), ">", "*.a", MARK + "none", self._stored(name) + ".>"]
        )

    def _sequence(self, name: str) -> int:
        last = self._streams[name].last if name in self._streams else 0
        if self._chance(0.1):
            return self._random.choice([0, last + 1, last + 1000, 1 << 40])
        first = max(1, last - 12)
        return self._random.randint(first, max(first, last))

    def _step(self, subject: str, body: object = None, headers: list[list[str]] | None = None) -> list[Step]:
        payload = body if isinstance(body, str) else "" if body is None else json.dumps(body)
        return [Step(subject, payload, headers or [], False, self._random.randrange(CONNECTIONS))]

    def _api(self, call: str, body: object = None) -> list[Step]:
        headers = []
        if self._chance(0.02):
            headers.append(["Nats-Required-Api-Level", self._random.choice(["0", "5", "6", "x"])])
        return self._step("$JS.API." + call, body, headers)

    # ---- streams

    def create(self) -> list[Step]:
        if len(self._streams) >= STREAMS_MAX:
            return self.delete()
        self._created += 1
        name = f"{MARK}S{self._created}"
        config = {"name": name, **self._random_config()}
        if self._chance(0.1):
            config = self._broken(config)
        steps = self._api(f"STREAM.CREATE.{name}", config)
        if self._chance(0.1):
            steps += self._api(f"STREAM.CREATE.{name}", config)
        return steps

    def create_again(self) -> list[Step]:
        name = self._stream()
        config = dict(self._config(name))
        if self._chance(0.5):
            self._change(config)
        return self._api(f"STREAM.CREATE.{name}", config)

    def update(self) -> list[Step]:
        name = self._stream()
        config = dict(self._config(name))
        for _ in range(self._random.randint(1, 2)):
            self._change(config)
        if self._chance(0.05):
            config = self._broken(config)
        return self._api(f"STREAM.UPDATE.{name}", config)

    def delete(self) -> list[Step]:
        return self._api(f"STREAM.DELETE.{self._stream()}", self._random.choice([None, None, {}, {"a": 1}]))

    def _random_subjects(self) -> list[str]:
        head = f"{MARK}{self._random.randrange(60)}"
        tails = self._random.choice([[".>"], [".*", ".*.*"], [".a", ".b", ".c.>"], [""], [".a.>"]])
        return [head + tail for tail in tails]

    def _random_config(self) -> Config:
        config: Config = {"storage": self._random.choice(["file", "memory"]), "allow_direct": True}
        if self._chance(0.97):
            config["subjects"] = self._random_subjects()
        for _ in range(self._random.choice([0, 1, 2, 3, 4, 5])):
            self._change(config)
        return config

    def _change(self, config: Config) -> None:
        """Set one random field, to something that makes sense most of the time."""
        name, values = self._random.choice(FIELDS)
        value = self._random.choice(values)
        if callable(value):
            value = value(self)
        config[name] = value
        if name == "discard_new_per_subject" and self._chance(0.8):
            config.update(discard="new", max_msgs_per_subject=2)
        if {">", "$JS.>"} & set(config.get("subjects") or []):
            # Refused then. With no_ack such a stream holds requests and answers, ours among them.
            config["no_ack"] = False
        if config.get("allow_msg_counter"):
            # Together they are taken, and refused when nats-server starts again.
            config["subject_delete_marker_ttl"] = 0
        if name == "allow_msg_counter" and self._chance(0.8):
            config.update(discard="old", allow_msg_ttl=False, allow_msg_schedules=False, retention="limits")

    def _broken(self, config: Config) -> Config:
        """Make a mistake that is one of form more than of content."""
        name, value = self._random.choice(MISTAKES)
        return {**config, name: value}

    # ---- questions

    def info(self) -> list[Step]:
        body = self._random.choice(
            [
                None,
                None,
                {},
                {"deleted_details": True},
                {"subjects_filter": ">"},
                {"subjects_filter": self._filter(self._stream())},
                {"subjects_filter": ">", "offset": 1},
                {"offset": 7},
                {"nonsense": 1},
                "not JSON",
                "{",
            ]
        )
        return self._api(f"STREAM.INFO.{self._stream()}", body)

    def names(self) -> list[Step]:
        stream = self._stream()
        body = self._random.choice(
            [None, {}, {"offset": 1}, {"offset": 100}, {"offset": -1}, {"subject": self._filter(stream)}, "["]
        )
        return self._api(self._random.choice(["STREAM.NAMES", "STREAM.LIST"]), body)

    def account(self) -> list[Step]:
        return self._api("INFO")

    # ---- messages in streams

    def purge(self) -> list[Step]:
        name = self._stream()
        body = self._random.choice(
            [
                None,
                {},
                {"filter": self._filter(name)},
                {"seq": self._sequence(name)},
                {"keep": self._random.randint(0, 4)},
                {"filter": self._filter(name), "keep": self._random.randint(0, 3)},
                {"filter": self._filter(name), "seq": self._sequence(name)},
                {"seq": 1, "keep": 1},
            ]
        )
        return self._api(f"STREAM.PURGE.{name}", body)

    def remove(self) -> list[Step]:
        name = self._stream()
        body = self._random.choice(
            [{"seq": self._sequence(name)}, {"seq": self._sequence(name), "no_erase": True}, None, {}]
        )
        return self._api(f"STREAM.MSG.DELETE.{name}", body)

    def get(self) -> list[Step]:
        name = self._stream()
        return self._api(f"STREAM.MSG.GET.{name}", self._get_body(name))

    def direct(self) -> list[Step]:
        name = self._stream()
        if self._chance(0.3):
            body = self._random.choice([None, None, {"no_hdr": True}, {"seq": 1}, "{"])
            return self._direct(f"DIRECT.GET.{name}.{self._stored(name)}", body)
        return self._direct(f"DIRECT.GET.{name}", self._get_body(name))

    def direct_batch(self) -> list[Step]:
        name = self._stream()
        body = self._random.choice(
            [
                {"batch": self._random.randint(1, 5), "seq": self._sequence(name)},
                {"batch": 3, "next_by_subj": self._filter(name)},
                {"batch": 3, "seq": self._sequence(name), "next_by_subj": self._filter(name)},
                {"batch": 100, "seq": 1, "max_bytes": self._random.randint(1, 300)},
                {"multi_last": [self._filter(name)]},
                {"multi_last": [self._filter(name), self._filter(name)], "batch": 2},
                {"multi_last": [self._filter(name)], "up_to_seq": self._sequence(name)},
                {"multi_last": [self._filter(name)], "seq": self._sequence(name)},
            ]
        )
        [step] = self._direct(f"DIRECT.GET.{name}", body)
        return [Step(step.subject, step.payload, step.headers, True, step.connection)]

    def _direct(self, call: str, body: object) -> list[Step]:
        """A direct get; one of a stream that is not there, or has it off, is answered by 503."""
        return self._api(call, body)

    def _get_body(self, name: str) -> object:
        return self._random.choice(
            [
                {"seq": self._sequence(name)},
                {"seq": self._sequence(name)},
                {"last_by_subj": self._filter(name)},
                {"last_by_subj": self._stored(name)},
                {"next_by_subj": self._filter(name)},
                {"seq": self._sequence(name), "next_by_subj": self._filter(name)},
                {"seq": self._sequence(name), "no_hdr": True},
                {"seq": self._sequence(name), "last_by_subj": self._stored(name)},
                {"seq": -1},
                {"unknown": 1, "seq": 1},
                None,
                {},
                "{",
                "text",
            ]
        )

    # ---- publishing

    def publish(self) -> list[Step]:
        name = self._stream()
        if self._config(name).get("no_ack"):
            return self.info()
        return self._publish(name, self._literal(name), self._random_headers(name))

    def publish_plain(self) -> list[Step]:
        name = self._stream()
        if self._config(name).get("no_ack"):
            return self.info()
        headers = [["Colour", "blue"]] if self._chance(0.2) else []
        return self._publish(name, self._literal(name), headers)

    def _publish(self, name: str, subject: str, headers: list[list[str]]) -> list[Step]:
        if self._config(name).get("allow_msg_counter") and self._chance(0.9):
            headers = [*headers, ["Nats-Incr", self._random.choice(["1", "+2", "-7", "0", "x", "9" * 30])]]
        size = self._random.choice([0, 1, 5, 20, 60, 250])
        payload = "" if any(header[0] == "Nats-Incr" for header in headers) else "x" * size
        return self._step(subject, payload, headers)

    def batch(self) -> list[Step]:
        """An atomic batch: whole, with a gap, or left open."""
        name = self._stream_with("allow_atomic")
        if self._config(name).get("no_ack"):
            return self.info()
        self._batches += 1
        count = self._random.randint(1, 4)
        ending = self._random.choice(["commit", "commit", "commit", "gap", "open", "bad", "eob"])
        known = self._streams.get(name)
        if ending == "open":
            if known is None or known.open_batches >= BATCHES_LEFT_OPEN_MAX:
                ending = "commit"
            else:
                known.open_batches += 1
        steps = []
        for number in range(1, count + 1):
            sequence = number + 1 if ending == "gap" and number == count else number
            headers = [["Nats-Batch-Id", f"batch{self._batches}"], ["Nats-Batch-Sequence", str(sequence)]]
            if number == count and ending != "open":
                value = {"bad": "x", "eob": "eob"}.get(ending, "1")
                headers.append(["Nats-Batch-Commit", value])
            if self._chance(0.15):
                headers += self._random_headers(name)
            steps += self._publish(name, self._literal(name), headers)
        return steps

    def publish_counter(self) -> list[Step]:
        name = self._stream_with("allow_msg_counter")
        if self._config(name).get("no_ack"):
            return self.info()
        value = self._random.choice(["1", "+2", "-7", "0", "x", "9" * 30])
        return self._step(self._literal(name), None, [["Nats-Incr", value]])

    def publish_schedule(self) -> list[Step]:
        name = self._stream_with("allow_msg_schedules")
        if self._config(name).get("no_ack"):
            return self.info()
        headers = [HEADERS_SCHEDULE[0](self, name)]
        for make in HEADERS_SCHEDULE[1:]:
            if self._chance(0.5):
                headers.append(make(self, name))
        return self._step(self._literal(name), "later", headers)

    def _random_headers(self, name: str) -> list[list[str]]:
        headers = []
        for _ in range(self._random.choice([0, 1, 1, 1, 2, 2, 3])):
            make = self._random.choice(HEADERS)
            headers.append(make(self, name))
        return headers

    def _expected_last(self, name: str) -> str:
        last = self._streams[name].last if name in self._streams else 0
        return str(self._random.choice([last, last, last, 0, last + 1, "x"]))

    def _expected_subject_last(self, name: str) -> str:
        known = self._streams.get(name)
        values = list(known.subjects.values()) if known else []
        return str(self._random.choice([*values, 0, 0, 99, "y"]))


WEIGHTS: dict[Callable[[Generator], list[Step]], float] = {
    Generator.create: 4,
    Generator.create_again: 1,
    Generator.update: 4,
    Generator.delete: 0.5,
    Generator.info: 6,
    Generator.names: 2,
    Generator.account: 0.5,
    Generator.purge: 1.5,
    Generator.remove: 4,
    Generator.get: 6,
    Generator.direct: 6,
    Generator.direct_batch: 4,
    Generator.publish: 25,
    Generator.publish_plain: 20,
    Generator.publish_counter: 3,
    Generator.publish_schedule: 3,
    Generator.batch: 4,
}

# Fields of a stream's configuration and what they are set to; no mirror or sources, whose contents come when
# they come, and no huge first_seq: a direct get of multi_last up to a sequence makes nats-server 2.15.1 walk
# all sequences from 1.
FIELDS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("description", ("a stream", "<&>", "x" * 4097)),
    ("subjects", (Generator._random_subjects, Generator._random_subjects, [], ["a..b"], [">"], ["$JS.>"])),
    ("retention", ("limits", "interest", "workqueue")),
    ("max_consumers", (-1, 0, 3, -5)),
    ("max_msgs", (-1, 0, 1, 3, 10, -7)),
    ("max_bytes", (-1, 0, 200, 1000, 5000)),
    ("max_age", (0, HOUR_NS, 2 * HOUR_NS, 1000, -1)),
    ("max_msgs_per_subject", (-1, 0, 1, 2, 5)),
    ("max_msg_size", (-1, 0, 30, 100)),
    ("discard", ("old", "new")),
    ("storage", ("file", "memory")),
    ("num_replicas", (1, 1, 1, 3, 0, -1, 9)),
    ("no_ack", (False, False, True)),
    ("duplicate_window", (0, 60 * SECOND_NS, 120 * SECOND_NS, 3 * HOUR_NS, 5, -5)),
    ("placement", ({}, {"tags": ["x"]})),
    ("compression", ("none", "s2", "zip")),
    ("first_seq", (0, 1, 50, 5000)),
    (
        "subject_transform",
        (
            {"src": MARK + "1.*", "dest": MARK + "moved.{{wildcard(1)}}"},
            {"src": ">", "dest": MARK + "moved.>"},
            {"src": MARK + "2.*.*", "dest": MARK + "moved.$2.$1"},
            {"src": "", "dest": ""},
            {"src": "a.*", "dest": "b.{{wildcard(2)}}"},
        ),
    ),
    (
        "republish",
        (
            {"src": ">", "dest": MARK + "again.>"},
            {"dest": MARK + "again.>", "headers_only": True},
            {"src": ">", "dest": ">"},
        ),
    ),
    ("allow_direct", (True, True, False)),
    ("mirror_direct", (False, True)),
    ("discard_new_per_subject", (True, True, False)),
    ("sealed", (False, False, False, True)),
    ("deny_delete", (True, False)),
    ("deny_purge", (True, False)),
    ("allow_rollup_hdrs", (True, True, False)),
    ("consumer_limits", ({}, {"inactive_threshold": SECOND_NS, "max_ack_pending": 5})),
    ("allow_msg_ttl", (True, True, False)),
    ("subject_delete_marker_ttl", (HOUR_NS, HOUR_NS, 0, 5)),
    ("allow_msg_counter", (True, True, False)),
    ("allow_atomic", (True, True, False)),
    ("allow_msg_schedules", (True, True, False)),
    ("persist_mode", ("default", "async", "odd")),
    ("allow_batched", (True, False)),
    ("metadata", ({}, {"owner": "me"}, {"owner": "you", "<b>": "&"})),
    ("pedantic", (True, False)),
)

MISTAKES: tuple[tuple[str, Any], ...] = (
    ("name", "other"),
    ("name", ""),
    ("name", "a.b"),
    ("name", "x" * 256),
    ("unknown_field", 1),
    ("max_msgs", "3"),
    ("max_msgs", 1.5),
    ("max_age", 1e9),
    ("subjects", "text"),
    ("subjects", [1]),
    ("retention", "bogus"),
    ("storage", "tape"),
    ("discard", 1),
    ("subjects", ["same", "same"]),
    ("subjects", ["over.*", "over.a"]),
    ("template_owner", "x"),
    ("allow_direct", "yes"),
    ("metadata", ["x"]),
    ("num_replicas", 1 << 70),
)

HEADERS_SCHEDULE: tuple[Callable[[Generator, str], list[str]], ...] = (
    lambda g, name: [
        "Nats-Schedule",
        g._random.choice(["@at 2099-01-01T00:00:00Z", "@every 10h", "0 0 0 1 1 *", "@at soon", "@yearly"]),
    ],
    lambda g, name: ["Nats-Schedule-Target", g._literal(name)],
    lambda g, name: ["Nats-Schedule-TTL", g._random.choice(["1h", "x"])],
    lambda g, name: ["Nats-Schedule-Source", g._stored(name)],
    lambda g, name: ["Nats-Schedule-Time-Zone", g._random.choice(["Europe/Berlin", "Mars/Base"])],
    lambda g, name: ["Nats-Rollup", g._random.choice(["sub", "all"])],
)

HEADERS: tuple[Callable[[Generator, str], list[str]], ...] = (
    lambda g, name: ["Nats-Msg-Id", f"id{g._random.randrange(30)}"],
    lambda g, name: ["Nats-Msg-Id", f"id{g._random.randrange(30)}"],
    lambda g, name: ["Nats-Msg-Id", ""],
    lambda g, name: ["Nats-Expected-Stream", g._random.choice([name, name, "other"])],
    lambda g, name: ["Nats-Expected-Last-Sequence", g._expected_last(name)],
    lambda g, name: ["Nats-Expected-Last-Msg-Id", f"id{g._random.randrange(30)}"],
    lambda g, name: ["Nats-Expected-Last-Subject-Sequence", g._expected_subject_last(name)],
    # Not ">": nats-server takes it for the last sequence of all, and for none where that message was deleted.
    lambda g, name: ["Nats-Expected-Last-Subject-Sequence-Subject", g._stored(name)],
    lambda g, name: ["Nats-Expected-Last-Subject-Sequence-Subject", g._pattern(name)],
    lambda g, name: ["Nats-Rollup", g._random.choice(["sub", "all", "sub", "some"])],
    lambda g, name: ["Nats-TTL", g._random.choice(["1h", "7200", "never", "0", "-1", "abc", "500ms", "1ns"])],
    lambda g, name: ["Nats-Incr", g._random.choice(["1", "-1", "x"])],
    HEADERS_SCHEDULE[0],
    lambda g, name: ["Nats-Required-Api-Level", g._random.choice(["3", "5", "6", "x"])],
    lambda g, name: ["X-Colour", "<green>"],
    lambda g, name: ["nats-msg-id", f"id{g._random.randrange(30)}"],
)
