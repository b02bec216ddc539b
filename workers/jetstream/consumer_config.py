"""A consumer's configuration as a value: every field of ConsumerConfig, and the request that carries it.

Attributes carry the wire's names and units: durations are int nanoseconds. Times are kept as the text that
the client gave, because answers show its zone; opt_start_time and pause_until are the same as Unix
nanoseconds. Rules about values live in consumer_checks.py (what may be, what is filled in) and
consumer_update.py (what may change); this module knows shapes only.

Source: nats-server server/consumer.go ConsumerConfig, CreateConsumerRequest.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from workers.jetstream import apierrors, gojson
from workers.jetstream.gojson import format_time, parse_time

DELIVER_ALL, DELIVER_LAST, DELIVER_NEW = "all", "last", "new"
DELIVER_BY_START_SEQUENCE, DELIVER_BY_START_TIME = "by_start_sequence", "by_start_time"
DELIVER_LAST_PER_SUBJECT = "last_per_subject"
ACK_NONE, ACK_ALL, ACK_EXPLICIT, ACK_FLOW_CONTROL = "none", "all", "explicit", "flow_control"
REPLAY_INSTANT, REPLAY_ORIGINAL = "instant", "original"
PRIORITY_NONE, PRIORITY_OVERFLOW = "none", "overflow"
PRIORITY_PINNED_CLIENT, PRIORITY_PRIORITIZED = "pinned_client", "prioritized"
ACTION_CREATE_OR_UPDATE, ACTION_CREATE, ACTION_UPDATE = "", "create", "update"


_NO_METADATA: Mapping[str, str] = MappingProxyType({})


class ConsumerConfig(NamedTuple):
    """One consumer's configuration; the defaults here are Go's zero values, not yet the server's.

    The fields stand in the order of CONFIG. It is a tuple because copies of it are made several times while a
    consumer is created, and a frozen dataclass of 36 fields takes six times as long for each.

    Attributes:
        opt_start_time_text, pause_until_text: RFC 3339 as Go writes it, "" for none.
    """

    durable_name: str = ""
    name: str = ""
    description: str = ""
    deliver_policy: str = DELIVER_ALL
    opt_start_seq: int = 0
    opt_start_time_text: str = ""
    ack_policy: str = ACK_NONE
    ack_wait: int = 0
    max_deliver: int = 0
    backoff: tuple[int, ...] = ()
    filter_subject: str = ""
    filter_subjects: tuple[str, ...] = ()
    replay_policy: str = REPLAY_INSTANT
    rate_limit_bps: int = 0
    sample_freq: str = ""
    max_waiting: int = 0
    max_ack_pending: int = 0
    flow_control: bool = False
    headers_only: bool = False
    max_batch: int = 0
    max_expires: int = 0
    max_bytes: int = 0
    deliver_subject: str = ""
    deliver_group: str = ""
    idle_heartbeat: int = 0
    inactive_threshold: int = 0
    num_replicas: int = 0
    mem_storage: bool = False
    direct: bool = False
    sourcing: bool = False
    metadata: Mapping[str, str] = _NO_METADATA
    pause_until_text: str = ""
    priority_groups: tuple[str, ...] = ()
    priority_policy: str = PRIORITY_NONE
    priority_timeout: int = 0

    @classmethod
    def from_members(cls, members: Mapping[str, object]) -> "ConsumerConfig":
        """Build from decoded members, as gojson gives them for CONFIG; also what to_json() gave."""
        values = dict(members)
        for name in _LISTS:
            if name in values:
                values[name] = tuple(values[name])  # type: ignore[arg-type]
        for name, attribute in _TIMES.items():
            if name in values:
                values[attribute] = values.pop(name)
        return cls(**values)  # type: ignore[arg-type]

    def replace(self, **changes: object) -> "ConsumerConfig":
        """Return a copy with other values; the times may be given as Unix nanoseconds, 0 for none."""
        for name, attribute in _TIMES.items():
            if name in changes:
                ns = changes.pop(name)
                assert isinstance(ns, int)
                changes[attribute] = format_time(ns) if ns else ""
        return self._replace(**changes) if changes else self  # type: ignore[arg-type]

    @property
    def opt_start_time(self) -> int:
        """The start time in Unix nanoseconds, 0 for none."""
        return parse_time(self.opt_start_time_text) if self.opt_start_time_text else 0

    @property
    def pause_until(self) -> int:
        """When deliveries go on, in Unix nanoseconds; 0: they are not to be held up."""
        return parse_time(self.pause_until_text) if self.pause_until_text else 0

    @property
    def is_push(self) -> bool:
        """Whether messages go to a subject without being asked for."""
        return bool(self.deliver_subject)

    @property
    def is_pull(self) -> bool:
        """Whether messages are delivered on request."""
        return not self.deliver_subject

    @property
    def is_durable(self) -> bool:
        """Whether the consumer outlives its clients; a name alone does not make it so."""
        return bool(self.durable_name)

    @property
    def filters(self) -> tuple[str, ...]:
        """The filter subjects, from whichever member has them; none: every subject."""
        return (self.filter_subject,) if self.filter_subject else self.filter_subjects

    @property
    def sample_percent(self) -> int:
        """How many of a hundred acknowledgements are reported."""
        return int(self.sample_freq.removesuffix("%")) if self.sample_freq else 0

    @property
    def called(self) -> str:
        """The name that the configuration gives, "" when one has to be generated."""
        return self.durable_name or self.name

    def to_json(self, metadata: Mapping[str, str] | None = None) -> dict[str, object]:
        """Return the JSON object in Go's order, empty members left out where nats-server does.

        Args:
            metadata: what is shown instead of the configuration's own.
        """
        shown = self if metadata is None else self._replace(metadata=metadata)
        value = {
            name: list(member) if type(member) is tuple else member
            for name, member in zip(CONFIG.members, shown, strict=True)
            if member or name in _ALWAYS_SHOWN
        }
        if shown.metadata:
            value["metadata"] = dict(sorted(shown.metadata.items()))
        if self.priority_policy == PRIORITY_NONE:
            del value["priority_policy"]
        return value


class CreateRequest(NamedTuple):
    """The body of a request that makes or changes a consumer.

    Attributes:
        action: "" (either), "create" or "update".
        is_pedantic: refuse (10157) instead of adjusting values.
    """

    stream_name: str = ""
    config: ConsumerConfig = ConsumerConfig()
    action: str = ACTION_CREATE_OR_UPDATE
    is_pedantic: bool = False

    @classmethod
    def parse(cls, data: bytes, *, strict: bool = True) -> "CreateRequest":
        """Read a request body.

        Raises:
            ApiError: 10025.
        """
        try:
            members = gojson.decode(data, CREATE_REQUEST, strict=strict)
        except gojson.DecodeError as error:
            raise apierrors.invalid_json(error) from error
        config = members.get("config", {})
        assert isinstance(config, dict)
        return cls(
            str(members.get("stream_name", "")),
            ConsumerConfig.from_members(config),
            str(members.get("action", ACTION_CREATE_OR_UPDATE)),
            members.get("pedantic") is True,
        )


# Members whose attribute has another name.
_TIMES = {"opt_start_time": "opt_start_time_text", "pause_until": "pause_until_text"}
_LISTS = ("backoff", "filter_subjects", "priority_groups")
_ALWAYS_SHOWN = frozenset(("deliver_policy", "ack_policy", "replay_policy", "num_replicas"))
_STRINGS = gojson.Array(gojson.STRING, "[]string")


def _words(*words: str) -> dict[str, str]:
    return {word: word for word in words}


CONFIG = gojson.Struct(
    "server.ConsumerConfig",
    {
        "durable_name": gojson.STRING,
        "name": gojson.STRING,
        "description": gojson.STRING,
        "deliver_policy": gojson.Enum(
            {
                "undefined": DELIVER_ALL,
                **_words(
                    DELIVER_ALL,
                    DELIVER_LAST,
                    DELIVER_NEW,
                    DELIVER_BY_START_SEQUENCE,
                    DELIVER_BY_START_TIME,
                    DELIVER_LAST_PER_SUBJECT,
                ),
            }
        ),
        "opt_start_seq": gojson.UINT64,
        "opt_start_time": gojson.TIME,
        "ack_policy": gojson.Enum(_words(ACK_NONE, ACK_ALL, ACK_EXPLICIT, ACK_FLOW_CONTROL)),
        "ack_wait": gojson.DURATION,
        "max_deliver": gojson.INT,
        "backoff": gojson.Array(gojson.DURATION, "[]time.Duration"),
        "filter_subject": gojson.STRING,
        "filter_subjects": _STRINGS,
        "replay_policy": gojson.Enum(_words(REPLAY_INSTANT, REPLAY_ORIGINAL)),
        "rate_limit_bps": gojson.UINT64,
        "sample_freq": gojson.STRING,
        "max_waiting": gojson.INT,
        "max_ack_pending": gojson.INT,
        "flow_control": gojson.BOOL,
        "headers_only": gojson.BOOL,
        "max_batch": gojson.INT,
        "max_expires": gojson.DURATION,
        "max_bytes": gojson.INT,
        "deliver_subject": gojson.STRING,
        "deliver_group": gojson.STRING,
        "idle_heartbeat": gojson.DURATION,
        "inactive_threshold": gojson.DURATION,
        "num_replicas": gojson.INT,
        "mem_storage": gojson.BOOL,
        "direct": gojson.BOOL,
        "sourcing": gojson.BOOL,
        "metadata": gojson.TEXTS,
        "pause_until": gojson.TIME,
        "priority_groups": _STRINGS,
        "priority_policy": gojson.Enum(
            _words(PRIORITY_NONE, PRIORITY_OVERFLOW, PRIORITY_PINNED_CLIENT, PRIORITY_PRIORITIZED),
            unknown="unknown priority policy",
        ),
        "priority_timeout": gojson.DURATION,
    },
    zero={},
)
CREATE_REQUEST = gojson.Struct(
    "server.CreateConsumerRequest",
    {
        "stream_name": gojson.STRING,
        "config": CONFIG,
        "action": gojson.Enum(
            _words(ACTION_CREATE_OR_UPDATE, ACTION_CREATE, ACTION_UPDATE), unknown="unknown consumer action"
        ),
        "pedantic": gojson.BOOL,
    },
)
