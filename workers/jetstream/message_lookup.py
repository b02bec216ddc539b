"""Which stored message a request means: by sequence, last or next of a subject, by time.

What STREAM.MSG.GET and DIRECT.GET have in common. Subjects here are as in requests (str); patterns with
wildcards are welcome everywhere. Nothing in this file reads a message: it answers with sequences.

Source: nats-server server/jetstream_api.go JSApiMsgGetRequest, filestore.go LoadLastMsg, LoadNextMsg,
GetSeqFromTime.
"""

from dataclasses import dataclass
from typing import Any

from storage import queries
from storage.stream import StreamStore
from storage.subjects import SubjectFilter
from workers.jetstream import gojson

_REQUEST = gojson.Struct(
    "server.JSApiMsgGetRequest",
    {
        "seq": gojson.UINT64,
        "last_by_subj": gojson.STRING,
        "next_by_subj": gojson.STRING,
        "batch": gojson.INT,
        "max_bytes": gojson.INT,
        "start_time": gojson.TIME,
        "multi_last": gojson.Array(gojson.STRING, "[]string"),
        "up_to_seq": gojson.UINT64,
        "up_to_time": gojson.TIME,
        "no_hdr": gojson.BOOL,
    },
)
_INT64_MAX = (1 << 63) - 1
# Making a filter looks at every subject of the stream, keeping one up to date only at what changed; a client
# asks for the same patterns again and again. Each costs a byte per subject.
_FILTERS_MAX = 16


@dataclass(frozen=True, slots=True)
class GetRequest:
    """A get request with Go's zero values for what was not given; times are Unix ns, None: not given."""

    sequence: int = 0
    last_by_subject: str = ""
    next_by_subject: str = ""
    batch: int = 0
    max_bytes: int = 0
    start_time_ns: int | None = None
    multi_last: tuple[str, ...] = ()
    up_to_sequence: int = 0
    up_to_time_ns: int | None = None
    no_headers: bool = False

    @property
    def is_contradictory(self) -> bool:
        """Whether it names its message in two ways that exclude each other."""
        has_time = self.start_time_ns is not None
        return bool(
            (self.sequence and (self.last_by_subject or has_time))
            or (self.last_by_subject and (self.next_by_subject or has_time))
        )


def parse(body: bytes, *, strict: bool) -> GetRequest:
    """Read the body of a get request.

    Raises:
        gojson.DecodeError: it is no JSON, or of the wrong types.
    """
    given: dict[str, Any] = gojson.decode(body, _REQUEST, strict=strict)
    return GetRequest(
        sequence=given.get("seq", 0),
        last_by_subject=given.get("last_by_subj", ""),
        next_by_subject=given.get("next_by_subj", ""),
        batch=given.get("batch", 0),
        max_bytes=given.get("max_bytes", 0),
        start_time_ns=_time_ns(given.get("start_time")),
        multi_last=tuple(given.get("multi_last", ())),
        up_to_sequence=given.get("up_to_seq", 0),
        up_to_time_ns=_time_ns(given.get("up_to_time")),
        no_headers=given.get("no_hdr", False),
    )


class MessageLookup:
    """Finds sequences in one stream."""

    def __init__(self, store: StreamStore) -> None:
        self._store = store
        self._filters: dict[tuple[bytes, ...], SubjectFilter] = {}

    def filter(self, patterns: tuple[str, ...]) -> SubjectFilter:
        """Return a filter for one or several patterns; no pattern at all stands for every subject."""
        names = tuple(_name(pattern) for pattern in patterns)
        found = self._filters.pop(names, None)
        if found is None:
            found = SubjectFilter(self._store.subjects, names)
            if len(self._filters) >= _FILTERS_MAX:
                del self._filters[next(iter(self._filters))]
        self._filters[names] = found
        return found

    def last(self, subject: str) -> int | None:
        """Return the newest sequence of a subject or pattern, None: it holds nothing.

        For `>` alone that is the stream's last sequence, though its message may have been deleted.
        """
        if subject == ">":
            return self._store.last_sequence
        if not has_wildcard(subject):
            return queries.last_sequence_of(self._store, _name(subject))
        found = queries.last_sequences(self._store, self.filter((subject,)))
        return int(found[-1]) if len(found) else None

    def next(self, subject: str, start: int) -> int | None:
        """Return the first sequence at or after `start` of a subject or pattern ("": any)."""
        return queries.find_next(self._store, self.filter((subject,) if subject else ()), start)

    def at_time(self, time_ns: int) -> int:
        """Return the first sequence stored at or after a time; if all are older, the one that comes next."""
        return queries.sequence_at(self._store, time_ns) or self._store.last_sequence + 1

    def pending(self, subject: str, start: int) -> int:
        """Return how many messages at or after `start` match a subject or pattern ("": any)."""
        return queries.count_pending(self._store, self.filter((subject,) if subject else ()), start)

    def start(self, request: GetRequest) -> int:
        """Return the sequence at which a request begins, 0: it names none."""
        if request.start_time_ns is not None:
            return self.at_time(request.start_time_ns)
        return request.sequence

    def resolve(self, request: GetRequest) -> int | None:
        """Return the sequence that a request for one message means, None: there is none.

        There may be no message with that sequence.
        """
        start = self.start(request)
        if request.next_by_subject:
            return self.next(request.next_by_subject, start)
        return start or self.last(request.last_by_subject)


def has_wildcard(subject: str) -> bool:
    """Whether a subject of a request stands for many: a whole token is `*`, or the last is `>`."""
    return "*" in subject.split(".") or subject == ">" or subject.endswith(".>")


def _name(subject: str) -> bytes:
    try:
        return subject.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        # A surrogate that JSON wrote, which is in no stored subject.
        return subject.encode(errors="surrogatepass")


def _time_ns(text: object) -> int | None:
    """Return the Unix time in ns that RFC 3339 text says, as far as 64 bits go."""
    if text is None:
        return None
    assert isinstance(text, str)
    return max(-_INT64_MAX, min(_INT64_MAX, gojson.parse_time(text)))
