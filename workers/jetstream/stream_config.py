"""A stream's configuration as a value: every field of StreamConfig, read from and written to JSON.

Attributes carry the wire's names and units: durations are int nanoseconds, -1 or 0 means no limit as the
API has it. Rules about values live in stream_checks.py (what may be, what is filled in) and stream_update.py
(what may change); this module knows shapes only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from storage.limits import StreamLimits
from workers.jetstream import apierrors, gojson
from workers.jetstream.gojson import parse_time

LIMITS, INTEREST, WORKQUEUE = "limits", "interest", "workqueue"
DISCARD_OLD, DISCARD_NEW = "old", "new"
FILE, MEMORY = "file", "memory"
PERSIST_DEFAULT, PERSIST_ASYNC = "default", "async"
COMPRESSION_NONE, COMPRESSION_S2 = "none", "s2"


@dataclass(frozen=True, slots=True)
class Transform:
    """A subject transform: src "" stands for `>`."""

    src: str = ""
    dest: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the JSON object; both members are always there."""
        return {"src": self.src, "dest": self.dest}


@dataclass(frozen=True, slots=True)
class Republish:
    """Where stored messages are published again."""

    src: str = ""
    dest: str = ""
    headers_only: bool = False

    def to_json(self) -> dict[str, object]:
        """Return the JSON object."""
        return _omit_empty({"src": self.src, "dest": self.dest, "headers_only": self.headers_only}, ("dest",))


@dataclass(frozen=True, slots=True)
class Placement:
    """Which servers of a cluster; kept and shown, without effect on one server."""

    cluster: str = ""
    tags: tuple[str, ...] = ()
    preferred: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the JSON object."""
        return _omit_empty({"cluster": self.cluster, "tags": list(self.tags), "preferred": self.preferred})


@dataclass(frozen=True, slots=True)
class External:
    """The API and delivery prefix of a stream in another account or domain."""

    api: str = ""
    deliver: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the JSON object."""
        return {"api": self.api, "deliver": self.deliver}


@dataclass(frozen=True, slots=True)
class SourceConsumer:
    """A durable consumer made beforehand on the origin."""

    name: str = ""
    deliver_subject: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the JSON object."""
        return _omit_empty({"name": self.name, "deliver_subject": self.deliver_subject})


@dataclass(frozen=True, slots=True)
class StreamSource:
    """A stream to mirror or to source from.

    Attributes:
        opt_start_time: RFC 3339 text as Go writes it, "" for none.
    """

    name: str = ""
    opt_start_seq: int = 0
    opt_start_time: str = ""
    filter_subject: str = ""
    subject_transforms: tuple[Transform, ...] = ()
    external: External | None = None
    consumer: SourceConsumer | None = None

    @property
    def opt_start_time_ns(self) -> int:
        """The start time in Unix nanoseconds, 0 for none."""
        return parse_time(self.opt_start_time) if self.opt_start_time else 0

    def to_json(self) -> dict[str, object]:
        """Return the JSON object."""
        value: dict[str, object] = {
            "name": self.name,
            "opt_start_seq": self.opt_start_seq,
            "opt_start_time": self.opt_start_time,
            "filter_subject": self.filter_subject,
            "subject_transforms": [transform.to_json() for transform in self.subject_transforms],
            "external": self.external and self.external.to_json(),
        }
        value = _omit_empty(value, ("name",))
        if self.consumer is not None:
            value["consumer"] = self.consumer.to_json()
        return value


@dataclass(frozen=True, slots=True)
class ConsumerLimits:
    """Defaults and bounds for the consumers of a stream."""

    inactive_threshold: int = 0
    max_ack_pending: int = 0

    def to_json(self) -> dict[str, object]:
        """Return the JSON object."""
        return _omit_empty(
            {"inactive_threshold": self.inactive_threshold, "max_ack_pending": self.max_ack_pending}
        )


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """One stream's configuration; the defaults here are Go's zero values, not yet the server's."""

    name: str = ""
    description: str = ""
    subjects: tuple[str, ...] = ()
    retention: str = LIMITS
    max_consumers: int = 0
    max_msgs: int = 0
    max_bytes: int = 0
    max_age: int = 0
    max_msgs_per_subject: int = 0
    max_msg_size: int = 0
    discard: str = DISCARD_OLD
    storage: str = ""
    num_replicas: int = 0
    no_ack: bool = False
    duplicate_window: int = 0
    placement: Placement | None = None
    mirror: StreamSource | None = None
    sources: tuple[StreamSource | None, ...] = ()
    compression: str = COMPRESSION_NONE
    first_seq: int = 0
    subject_transform: Transform | None = None
    republish: Republish | None = None
    allow_direct: bool = False
    mirror_direct: bool = False
    discard_new_per_subject: bool = False
    sealed: bool = False
    deny_delete: bool = False
    deny_purge: bool = False
    allow_rollup_hdrs: bool = False
    consumer_limits: ConsumerLimits = field(default_factory=ConsumerLimits)
    allow_msg_ttl: bool = False
    subject_delete_marker_ttl: int = 0
    allow_msg_counter: bool = False
    allow_atomic: bool = False
    allow_msg_schedules: bool = False
    persist_mode: str = PERSIST_DEFAULT
    allow_batched: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes, *, strict: bool = True) -> tuple["StreamConfig", bool]:
        """Read a create or update request.

        Returns:
            The configuration as given, nothing filled in, and whether the request is pedantic.
        Raises:
            ApiError: 10025.
        """
        try:
            members = gojson.decode(data, CONFIG_REQUEST, strict=strict)
        except gojson.DecodeError as error:
            raise apierrors.invalid_json(error) from error
        is_pedantic = members.pop("pedantic", False) is True
        return cls.from_members(members), is_pedantic

    @classmethod
    def from_members(cls, members: Mapping[str, object]) -> "StreamConfig":
        """Build from decoded members, as gojson gives them for CONFIG; also what to_json() gave."""
        values: dict[str, object] = {}
        for name, value in members.items():
            build = _BUILDERS.get(name)
            values[name] = build(value) if build is not None else value
        return cls(**values)  # type: ignore[arg-type]

    def replace(self, **changes: object) -> "StreamConfig":
        """Return a copy with other values."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, object]:
        """Return the JSON object in Go's order, empty members left out where nats-server does."""
        value: dict[str, object] = {}
        for item in fields(self):
            name = item.name
            member = getattr(self, name)
            if hasattr(member, "to_json"):
                member = member.to_json()
            elif isinstance(member, tuple):
                member = [one.to_json() if hasattr(one, "to_json") else one for one in member]
            elif name == "persist_mode" and member == PERSIST_DEFAULT:
                continue
            elif name == "metadata":
                member = dict(sorted(member.items()))
            if name in _ALWAYS_SHOWN or member or (name in _POINTERS and member is not None):
                value[name] = member
        return value

    def limits(self) -> StreamLimits:
        """Return what the store has to enforce."""
        return StreamLimits(
            max_messages=self.max_msgs if self.max_msgs > 0 else -1,
            max_bytes=self.max_bytes if self.max_bytes > 0 else -1,
            max_age_ns=self.max_age,
            max_message_bytes=self.max_msg_size if self.max_msg_size > 0 else -1,
            max_messages_per_subject=self.max_msgs_per_subject if self.max_msgs_per_subject > 0 else -1,
            discard_new=self.discard == DISCARD_NEW,
            discard_new_per_subject=self.discard_new_per_subject,
        )


_ALWAYS_SHOWN = frozenset(
    (
        "name",
        "retention",
        "max_consumers",
        "max_msgs",
        "max_bytes",
        "max_age",
        "max_msgs_per_subject",
        "discard",
        "storage",
        "num_replicas",
        "compression",
        "allow_direct",
        "mirror_direct",
        "sealed",
        "deny_delete",
        "deny_purge",
        "allow_rollup_hdrs",
        "consumer_limits",
        "allow_msg_ttl",
    )
)
_POINTERS = frozenset(("placement", "mirror", "subject_transform", "republish"))


def _omit_empty(members: dict[str, object], keep: tuple[str, ...] = ()) -> dict[str, object]:
    """Leave out empty members, as Go's omitempty does."""
    return {name: value for name, value in members.items() if value or name in keep}


def _transform(value: object) -> Transform:
    assert isinstance(value, dict)
    return Transform(**value)


def _placement(value: object) -> Placement:
    assert isinstance(value, dict)
    return Placement(**value | {"tags": tuple(value.get("tags", ()))})


def _source(value: object) -> StreamSource | None:
    if value is None:
        return None
    assert isinstance(value, dict)
    members = dict(value)
    if "subject_transforms" in members:
        members["subject_transforms"] = tuple(map(_transform, members["subject_transforms"]))
    if "external" in members:
        members["external"] = External(**members["external"])
    if "consumer" in members:
        members["consumer"] = SourceConsumer(**members["consumer"])
    return StreamSource(**members)


def _sources(value: object) -> tuple[StreamSource | None, ...]:
    assert isinstance(value, list)
    return tuple(map(_source, value))


def _republish(value: object) -> Republish:
    assert isinstance(value, dict)
    return Republish(**value)


def _consumer_limits(value: object) -> ConsumerLimits:
    assert isinstance(value, dict)
    return ConsumerLimits(**value)


def _subjects(value: object) -> tuple[str, ...]:
    assert isinstance(value, list)
    return tuple(value)


_BUILDERS = {
    "subjects": _subjects,
    "placement": _placement,
    "mirror": _source,
    "sources": _sources,
    "subject_transform": _transform,
    "republish": _republish,
    "consumer_limits": _consumer_limits,
}

_TRANSFORM = gojson.Struct(
    "server.SubjectTransformConfig", {"src": gojson.STRING, "dest": gojson.STRING}, zero={}
)
_SOURCE = gojson.Struct(
    "server.StreamSource",
    {
        "name": gojson.STRING,
        "opt_start_seq": gojson.UINT64,
        "opt_start_time": gojson.TIME,
        "filter_subject": gojson.STRING,
        "subject_transforms": gojson.Array(_TRANSFORM, "[]server.SubjectTransformConfig"),
        "external": gojson.Struct("server.ExternalStream", {"api": gojson.STRING, "deliver": gojson.STRING}),
        "consumer": gojson.Struct(
            "server.StreamConsumerSource", {"name": gojson.STRING, "deliver_subject": gojson.STRING}
        ),
    },
)
_STRINGS = gojson.Array(gojson.STRING, "[]string")


def _words(*words: str) -> dict[str, str]:
    return {word: word for word in words}


_MEMBERS: dict[str, gojson.Kind] = {
    "name": gojson.STRING,
    "description": gojson.STRING,
    "subjects": _STRINGS,
    "retention": gojson.Enum(_words(LIMITS, INTEREST, WORKQUEUE)),
    "max_consumers": gojson.INT,
    "max_msgs": gojson.INT64,
    "max_bytes": gojson.INT64,
    "max_age": gojson.DURATION,
    "max_msgs_per_subject": gojson.INT64,
    "max_msg_size": gojson.INT32,
    "discard": gojson.Enum(_words(DISCARD_OLD, DISCARD_NEW), is_folding=True),
    "storage": gojson.Enum(_words(FILE, MEMORY)),
    "num_replicas": gojson.INT,
    "no_ack": gojson.BOOL,
    "duplicate_window": gojson.DURATION,
    "placement": gojson.Struct(
        "server.Placement", {"cluster": gojson.STRING, "tags": _STRINGS, "preferred": gojson.STRING}
    ),
    "mirror": _SOURCE,
    "sources": gojson.Array(_SOURCE, "[]*server.StreamSource"),
    "compression": gojson.Enum(
        _words(COMPRESSION_NONE, COMPRESSION_S2), refusal="unknown compression algorithm"
    ),
    "first_seq": gojson.UINT64,
    "subject_transform": _TRANSFORM,
    "republish": gojson.Struct(
        "server.RePublish", {"src": gojson.STRING, "dest": gojson.STRING, "headers_only": gojson.BOOL}
    ),
    "allow_direct": gojson.BOOL,
    "mirror_direct": gojson.BOOL,
    "discard_new_per_subject": gojson.BOOL,
    "sealed": gojson.BOOL,
    "deny_delete": gojson.BOOL,
    "deny_purge": gojson.BOOL,
    "allow_rollup_hdrs": gojson.BOOL,
    "consumer_limits": gojson.Struct(
        "server.StreamConsumerLimits",
        {"inactive_threshold": gojson.DURATION, "max_ack_pending": gojson.INT},
        zero={},
    ),
    "allow_msg_ttl": gojson.BOOL,
    "subject_delete_marker_ttl": gojson.DURATION,
    "allow_msg_counter": gojson.BOOL,
    "allow_atomic": gojson.BOOL,
    "allow_msg_schedules": gojson.BOOL,
    "persist_mode": gojson.Enum({"default": PERSIST_DEFAULT, "": PERSIST_DEFAULT, "async": PERSIST_ASYNC}),
    "allow_batched": gojson.BOOL,
    "metadata": gojson.TEXTS,
}
# A StreamConfig inside another request (restore), and the body of create and update.
CONFIG = gojson.Struct("server.StreamConfig", _MEMBERS, zero={})
CONFIG_REQUEST = gojson.Struct("server.StreamConfigRequest", {**_MEMBERS, "pedantic": gojson.BOOL})
