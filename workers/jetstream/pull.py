"""Pull requests of one consumer: what clients ask for, what they are told, and when a request is over.

The compiled core (delivery.pyx) holds the requests and gives them messages; here is everything else that
nats-server does with them: limits, expiry, idle heartbeats, no_wait, and the status messages.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.jetstream import asset_metadata, gojson
from workers.jetstream.delivery import FILLED, TOO_LARGE, Request
from workers.jetstream.durations import format_duration
from workers.jetstream.headers import REQUIRED_API_LEVEL, get
from workers.jetstream.priority import Group, Priority
from workers.jetstream.statuses import status
from workers.sinks import CallSink

if TYPE_CHECKING:
    from workers.jetstream.consumer import Consumer

SECOND_NS = 10**9
MAX_WAITING_UNLIMITED = 1 << 62
OVER_MAX = 64
"""Requests that are over may be remembered, in so far as they are not more than this and those that wait."""

# nats-server reads it into a nameless type, as its errors show.
REQUEST = gojson.Struct(
    "",
    {
        "expires": gojson.DURATION,
        "batch": gojson.INT,
        "max_bytes": gojson.INT,
        "no_wait": gojson.BOOL,
        "idle_heartbeat": gojson.DURATION,
        "group": gojson.STRING,
        "min_pending": gojson.INT64,
        "min_ack_pending": gojson.INT64,
        "id": gojson.STRING,
        "priority": gojson.INT,
    },
)


class BadRequest(Exception):
    """A pull request that cannot be understood; the text goes to the client."""


@dataclass(slots=True)
class Waiting:
    """What is known of a waiting request beside what the core counts.

    Attributes:
        expires_ns: Unix time, 0: never. heartbeat_ns: between heartbeats, 0: none.
        heartbeat_at_ns: when the next one is due. group: of a priority policy, or None.
        shown_more: what statuses add to the messages that are left: a request for 0 or fewer is served as
            one for 1, and spoken of as what it was.
    """

    expires_ns: int
    no_wait: bool
    heartbeat_ns: int
    heartbeat_at_ns: int
    group: Group | None
    shown_more: int = 0


def read_request(body: bytes, now_ns: int) -> tuple[Request, Waiting]:
    """Read the body of a pull request: JSON, a number of messages, or anything else for one message.

    Raises:
        BadRequest: it is broken JSON, or its heartbeat does not fit its expiry.
    """
    text = body.strip()
    if not text.startswith(b"{"):
        batch = int(text) if text.isdigit() else 1
        return Request(b"", max(1, batch)), Waiting(0, False, 0, 0, None)
    try:
        values = gojson.decode(text, REQUEST, strict=False)
    except gojson.DecodeError as error:
        raise BadRequest(str(error)) from error
    expires = _int(values, "expires")
    heartbeat = _int(values, "idle_heartbeat")
    if heartbeat and heartbeat * 2 > expires:
        raise BadRequest("heartbeat value too large")
    waiting = Waiting(
        expires_ns=now_ns + expires if expires else 0,
        no_wait=bool(values.get("no_wait")),
        heartbeat_ns=heartbeat,
        heartbeat_at_ns=now_ns + heartbeat if heartbeat else 0,
        group=Group.of(values),
    )
    max_bytes = _int(values, "max_bytes")
    batch = _int(values, "batch")
    waiting.shown_more = min(0, batch - 1)
    return Request(b"", max(1, batch), max_bytes if max_bytes > 0 else -1), waiting


def _int(values: dict[str, object], name: str) -> int:
    value = values.get(name)
    return value if isinstance(value, int) else 0


def listen_for_requests(
    consumer: Consumer, take: Callable[[bytes, bytes, bytes, bytes, int], None]
) -> list[int]:
    """Have `take` called with every pull request to a consumer; return the listeners."""
    stream, name = consumer.stream, consumer.name.encode()
    subjects = [
        b"%bCONSUMER.MSG.NEXT.%b.%b" % (prefix, stream.name.encode(), name)
        for prefix in consumer.engine.api_prefixes
    ]
    sink = CallSink(take)
    return [
        consumer.engine.plane.listen(stream.account, subject, sink, is_sticky=True) for subject in subjects
    ]


def read_info(request: Request) -> Waiting:
    """Return what is known of a request."""
    info = request.info
    assert isinstance(info, Waiting)
    return info


class PullQueue:
    """The pull requests of one consumer."""

    def __init__(self, consumer: Consumer) -> None:
        """Begin with none; `listen` lets them in."""
        self._consumer = consumer
        self._engine = consumer.engine
        self.priority = Priority(consumer)
        self.last_request_ns = consumer.engine.now_ns()
        self._listeners: list[int] = []
        # A heap of (when something may be due, order, request); some are too early, some requests are over.
        self._due: list[tuple[int, int, Request]] = []
        self._asked = 0
        self._no_waits: dict[Request, None] = {}
        self._delivered_ns = 0

    # ---- life

    def listen(self) -> None:
        """Take requests."""
        self._listeners = listen_for_requests(self._consumer, self._take)

    def close(self, code: int, text: str) -> None:
        """Take no more requests and end those that wait; code 0 ends them without a word."""
        while self._listeners:
            self._engine.plane.unlisten(self._listeners.pop())
        self.end_all(code, text)
        self.priority.close()

    def end_all(self, code: int, text: str, *, tells_rest: bool = False) -> None:
        """End the requests that wait; code 0 ends them without a word.

        Args:
            tells_rest: they are told what is left of them.
        """
        for request in list(self._consumer.core.requests):
            self._consumer.core.remove_request(request)
            if code:
                self.tell(request.reply, status(code, text, request if tells_rest else None))

    # ---- requests

    def tell(self, reply: bytes, headers: bytes) -> None:
        """Send a status message."""
        self._consumer.stream.send_now(reply, b"", headers)

    def _take(self, _subject: bytes, reply: bytes, headers: bytes, payload: bytes, _client_id: int) -> None:
        level = get(headers, REQUIRED_API_LEVEL)
        if level is not None and not asset_metadata.is_level_supported(level.decode(errors="replace")):
            self.tell(reply, status(412, "Required Api Level"))
            return
        self.ask(reply, payload)

    def ask(self, reply: bytes, body: bytes) -> None:
        """Take a pull request; its answers go to `reply`."""
        if not reply:
            return
        now_ns = self._engine.now_ns()
        self.last_request_ns = now_ns
        try:
            parsed, waiting = read_request(body, now_ns)
        except BadRequest as error:
            self.tell(reply, status(400, f"Bad Request - {error}"))
            return
        refusal = self._exceeded(parsed, waiting, now_ns) or self.priority.refusal(waiting.group)
        if refusal is None and waiting.no_wait:
            refusal = self._nothing_to_take(parsed, waiting, now_ns)
        if refusal is not None:
            self.tell(reply, status(*refusal))
            return
        if len(self._consumer.core.requests) >= (self._consumer.config.max_waiting or MAX_WAITING_UNLIMITED):
            self.check(now_ns, is_at_end=False)
            if len(self._consumer.core.requests) >= self._consumer.config.max_waiting:
                if not waiting.heartbeat_ns:
                    self.tell(reply, status(409, "Exceeded MaxWaiting"))
                return
        request = Request(reply, parsed.remaining, parsed.bytes_left, waiting)
        self.priority.add(request)
        self._note(request, waiting)
        self._consumer.asked()

    def _note(self, request: Request, waiting: Waiting) -> None:
        """Remember when a request is due."""
        if len(self._due) + len(self._no_waits) > 2 * len(self._consumer.core.requests) + OVER_MAX:
            self._due = [entry for entry in self._due if entry[2].is_waiting]
            heapq.heapify(self._due)
            self._no_waits = {one: None for one in self._no_waits if one.is_waiting}
        if waiting.no_wait:
            self._no_waits[request] = None
        if due_ns := self._due_of(waiting):
            self._asked += 1
            heapq.heappush(self._due, (due_ns, self._asked, request))

    def _exceeded(self, request: Request, waiting: Waiting, now_ns: int) -> tuple[int, str] | None:
        config = self._consumer.config
        if 0 < config.max_batch < request.remaining:
            return 409, f"Exceeded MaxRequestBatch of {config.max_batch}"
        if waiting.expires_ns and 0 < config.max_expires < waiting.expires_ns - now_ns:
            return 409, f"Exceeded MaxRequestExpires of {format_duration(config.max_expires)}"
        if 0 < config.max_bytes < request.bytes_left:
            return 409, f"Exceeded MaxRequestMaxBytes of {config.max_bytes}"
        return None

    def _nothing_to_take(self, request: Request, waiting: Waiting, now_ns: int) -> tuple[int, str] | None:
        """Return what a request that does not wait is told when there is nothing for it."""
        core = self._consumer.core
        pending = core.num_pending + core.num_redeliveries
        if pending == 0:
            return None if waiting.expires_ns else (404, "No Messages")
        self.check(now_ns, is_at_end=False)
        if pending < sum(other.remaining for other in core.requests):
            return 408, "Requests Pending"
        return None

    # ---- what the core says

    def ended(self, request: Request, reason: int) -> None:
        """Tell the client why its request is over, if it cannot see it."""
        if reason == TOO_LARGE:
            self.tell(request.reply, status(409, "Message Size Exceeds MaxBytes", request))
        elif reason == FILLED and request.bytes_left > 0:
            self.tell(request.reply, status(409, "Batch Completed", request))

    # ---- time

    def check(self, now_ns: int, *, is_at_end: bool) -> None:
        """End requests whose time is over, and send heartbeats.

        Args:
            is_at_end: there is nothing to deliver now, so requests that do not wait are over.
        """
        while self.is_due(now_ns):
            _, order, request = heapq.heappop(self._due)
            waiting = read_info(request)
            if waiting.expires_ns and now_ns >= waiting.expires_ns:
                self._end(request, status(408, "Request Timeout", request))
            elif is_at_end and waiting.no_wait and request.delivered:
                self._end(request, status(404, "No Messages"))
            elif self._consumer.has_interest(request.reply):
                self.tell(request.reply, self._consumer.heartbeat())
                waiting.heartbeat_at_ns = now_ns + waiting.heartbeat_ns
                heapq.heappush(self._due, (self._due_of(waiting), order, request))
            else:
                self._consumer.core.remove_request(request)
        if is_at_end and self._no_waits:
            self._end_no_waits()

    def _end_no_waits(self) -> None:
        """End the requests that do not wait, but for those that may wait for a first message."""
        left = [request for request in self._no_waits if request.is_waiting]
        self._no_waits = {
            request: None for request in left if read_info(request).expires_ns and not request.delivered
        }
        for request in left:
            if request not in self._no_waits:
                self._end(request, status(404, "No Messages"))

    def next_due_ns(self) -> int:
        """Return when `check` may have something to do, 0: never."""
        while self._due and not self._due[0][2].is_waiting:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else 0

    def is_due(self, now_ns: int) -> bool:
        """Return whether a request has ended or its heartbeat is due."""
        while 0 < self.next_due_ns() <= now_ns:
            _, order, request = self._due[0]
            due_ns = self._due_of(read_info(request))
            if due_ns <= now_ns:
                return True
            heapq.heapreplace(self._due, (due_ns, order, request))
        return False

    def _due_of(self, waiting: Waiting) -> int:
        """Return when a request ends or its heartbeat is due, 0: never."""
        if not waiting.heartbeat_ns:
            return waiting.expires_ns
        beat_ns = max(waiting.heartbeat_at_ns, self._delivered_ns + waiting.heartbeat_ns)
        return min(beat_ns, waiting.expires_ns)

    def _end(self, request: Request, headers: bytes) -> None:
        self._consumer.core.remove_request(request)
        self.tell(request.reply, headers)

    def delivered(self, now_ns: int) -> None:
        """Begin the wait for heartbeats anew: something was delivered."""
        self._delivered_ns = now_ns

    def drop_uninterested(self) -> None:
        """Forget requests that nobody listens for any more."""
        for request in list(self._consumer.core.requests):
            if not self._consumer.has_interest(request.reply):
                self._consumer.core.remove_request(request)
