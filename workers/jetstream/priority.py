"""Priority groups of pull consumers: which of the waiting requests gets the next message.

    overflow        a request is served while enough messages are pending, or enough are unacknowledged
    pinned_client   one client gets everything until it is silent for too long or is unpinned
    prioritized     requests with a lower number first

Source: nats-server server/consumer.go, nextWaiting and processNextMsgRequest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from workers.jetstream import consumer_advisories
from workers.jetstream.advisories import unique_id
from workers.jetstream.delivery import Request

if TYPE_CHECKING:
    import asyncio

    from workers.jetstream.consumer import Consumer

SECOND_NS = 10**9
PRIORITY_MAX = 9
PIN_HEADER = b"Nats-Pin-Id"


@dataclass(slots=True)
class Group:
    """What a pull request says of priorities.

    Attributes:
        name: of the group. min_pending, min_ack_pending: overflow; 0: not said.
        pin: the pin id that the client has, "" for none. priority: 0 is served first.
    """

    name: str
    min_pending: int
    min_ack_pending: int
    pin: str
    priority: int

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self | None:
        """Read a decoded request; None: it says nothing of priorities."""
        group = cls(
            name=str(values.get("group") or ""),
            min_pending=_number(values.get("min_pending")),
            min_ack_pending=_number(values.get("min_ack_pending")),
            pin=str(values.get("id") or ""),
            priority=_number(values.get("priority")),
        )
        is_empty = not (group.name or group.pin)
        if is_empty and not (group.min_pending or group.min_ack_pending or group.priority):
            return None
        return group


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _group(request: Request) -> Group | None:
    group = getattr(request.info, "group", None)
    assert group is None or isinstance(group, Group)
    return group


class Priority:
    """The priority policy of one consumer, and who is pinned."""

    def __init__(self, consumer: Consumer) -> None:
        """Begin with nobody pinned."""
        self._consumer = consumer
        self.pin = ""
        self.pinned_ns = 0
        self._pinned_group = ""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _policy(self) -> str:
        return self._consumer.config.priority_policy

    @property
    def chooses(self) -> bool:
        """Whether requests are not simply served in turn."""
        return self._policy not in ("", "none")

    def close(self) -> None:
        """Forget who is pinned."""
        self._stop_timer()
        self.pin = ""

    # ---- requests

    def refusal(self, group: Group | None) -> tuple[int, str] | None:
        """Return the status with which a request is refused, or None."""
        policy = self._policy
        if group is not None:
            if (group.min_pending or group.min_ack_pending) and policy != "overflow":
                return 400, "Bad Request - Not a Overflow Priority consumer"
            if group.pin and policy != "pinned_client":
                return 400, "Bad Request - Not a Pinned Client Priority consumer"
            if not 0 <= group.priority <= PRIORITY_MAX:
                return 400, "Bad Request - Priority must be between 0 and 9"
        if not self.chooses:
            return None
        if group is None or not group.name:
            return 400, "Bad Request - Priority Group missing"
        if group.name not in self._consumer.config.priority_groups:
            return 400, "Bad Request - Invalid Priority Group"
        if self.pin and group.pin == self.pin:
            self._start_timer(group.name)
        elif self.pin and group.pin:
            return 423, "Nats-Pin-Id mismatch"
        return None

    def add(self, request: Request) -> None:
        """Let a request wait, in its place."""
        self._consumer.core.add_request(request)
        if self._policy == "prioritized":
            self._consumer.core.requests.sort(key=_priority_of)

    def choose(self) -> Request | None:
        """Return the request that gets the next message, or None if none may have it."""
        requests = self._consumer.core.requests
        if self._policy == "overflow":
            return self._choose_overflow(requests)
        if self._policy == "pinned_client":
            return self._choose_pinned(list(requests))
        if not requests:
            return None
        first = requests[0]
        # Those of one priority take turns.
        for at in range(len(requests) - 1, 0, -1):
            if _priority_of(requests[at]) == _priority_of(first):
                requests.insert(at, requests.pop(0))
                break
        return first

    def _choose_overflow(self, requests: list[Request]) -> Request | None:
        core = self._consumer.core
        for _ in range(len(requests)):
            request = requests[0]
            requests.append(requests.pop(0))
            group = _group(request)
            if group is None or not (group.min_pending or group.min_ack_pending):
                return request
            if 0 < group.min_pending <= core.num_pending or 0 < group.min_ack_pending <= core.num_ack_pending:
                return request
        return None

    def _choose_pinned(self, requests: list[Request]) -> Request | None:
        for request in requests:
            group = _group(request)
            pin = group.pin if group is not None else ""
            if not self.pin and not pin:
                self._assign(group)
                return request
            if self.pin and pin == self.pin:
                return request
            if pin:
                self._consumer.core.remove_request(request)
                self._consumer.wrong_pin(request)
        return None

    # ---- pinning

    def _assign(self, group: Group | None) -> None:
        self.pin = unique_id()
        self._pinned_group = group.name if group is not None else ""
        self.pinned_ns = self._consumer.engine.now_ns()
        self._consumer.core.extra_headers = PIN_HEADER + b": " + self.pin.encode() + b"\r\n"
        self._start_timer(self._pinned_group)
        consumer_advisories.pinned(self._consumer, self._pinned_group, self.pin)

    def _start_timer(self, group: str) -> None:
        self._stop_timer()
        timeout_ns = self._consumer.config.priority_timeout
        if timeout_ns:
            seconds = timeout_ns / SECOND_NS
            self._timer = self._consumer.engine.later(seconds, lambda: self.unpin("timeout"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def unpin(self, reason: str) -> None:
        """Let another client be pinned with its next request; reason: timeout or admin."""
        self._stop_timer()
        if not self.pin:
            return
        self.pin = ""
        self.pinned_ns = 0
        self._consumer.core.extra_headers = b""
        consumer_advisories.unpinned(self._consumer, self._pinned_group, reason)
        self._consumer.core.wake()
        self._consumer.asked()


def _priority_of(request: Request) -> int:
    group = _group(request)
    return group.priority if group is not None else 0
