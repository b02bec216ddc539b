"""Priority groups of a pull consumer: which of the waiting requests gets the next message.

    overflow        a request may ask to be served only when much is pending or unacknowledged
    pinned_client   one client gets everything until it is silent for too long or is unpinned
    prioritized     lower numbers first, the same numbers in turn

The compiled core asks choose() for every message while `chooses` is true, and leaves the order of requests
alone; whoever was passed over or served goes to the end, as in nats-server's queue.

Source: nats-server server/consumer.go, nextWaiting, waitQueue, processNextMsgRequest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.jetstream import consumer_advisories
from workers.jetstream.advisories import unique_id
from workers.jetstream.consumer_config import (
    PRIORITY_NONE,
    PRIORITY_OVERFLOW,
    PRIORITY_PINNED_CLIENT,
    PRIORITY_PRIORITIZED,
)
from workers.jetstream.gojson import format_time

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from workers.jetstream.consumer import Consumer
    from workers.jetstream.delivery import Request

SECOND_NS = 10**9
PRIORITY_MAX = 9
# Requests that cannot say a priority come after those that can.
LAST = PRIORITY_MAX + 1


@dataclass(slots=True)
class Group:
    """What a pull request in JSON says of priorities; requests in other forms have no group at all.

    Attributes:
        name: of the group. min_pending, min_ack_pending: when overflow serves it; 0: always.
        pin: the pin id that the client has, "" for none. priority: 0..9, 0 is served first.
    """

    name: str = ""
    min_pending: int = 0
    min_ack_pending: int = 0
    pin: str = ""
    priority: int = 0

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Group:
        """Read a decoded request."""
        return cls(
            name=str(values.get("group", "")),
            min_pending=_number(values.get("min_pending")),
            min_ack_pending=_number(values.get("min_ack_pending")),
            pin=str(values.get("id", "")),
            priority=_number(values.get("priority")),
        )


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
        self._pin_ends_ns = 0
        # Who was pinned by the last choice: the request may turn out to be too small for the message.
        self._fresh: Request | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _policy(self) -> str:
        return self._consumer.config.priority_policy

    @property
    def chooses(self) -> bool:
        """Whether requests are not simply served in turn."""
        return self._policy != PRIORITY_NONE

    def configure(self) -> None:
        """Take over the consumer's configuration after a change."""
        if self.pin and self._policy != PRIORITY_PINNED_CLIENT:
            self._forget_pin()

    def close(self) -> None:
        """Forget who is pinned."""
        if self.pin:
            self._forget_pin()

    # ---- requests

    def refusal(self, group: Group | None) -> tuple[int, str] | None:
        """Return the status with which a request is refused, or None.

        A request of the pinned client lets its time begin anew.
        """
        if group is None:
            return None
        fault = self._fault(group)
        if fault:
            return 400, f"Bad Request - {fault}"
        if self.pin and group.pin == self.pin:
            self._extend_pin()
        elif self.pin and group.pin:
            return 423, "Nats-Pin-Id mismatch"
        return None

    def _fault(self, group: Group) -> str:
        policy = self._policy
        if (group.min_pending or group.min_ack_pending) and policy != PRIORITY_OVERFLOW:
            return "Not a Overflow Priority consumer"
        if group.pin and policy != PRIORITY_PINNED_CLIENT:
            return "Not a Pinned Client Priority consumer"
        if not 0 <= group.priority <= PRIORITY_MAX:
            return f"Priority must be between 0 and {PRIORITY_MAX}"
        if policy == PRIORITY_NONE:
            return ""
        if not group.name:
            return "Priority Group missing"
        return "" if group.name in self._consumer.config.priority_groups else "Invalid Priority Group"

    def add(self, request: Request) -> None:
        """Let a request wait."""
        self._consumer.core.add_request(request)

    # ---- the choice

    def choose(self) -> Request | None:
        """Return the request that gets the next message, or None if none may have it."""
        requests = self._consumer.core.requests
        policy = self._policy
        if policy == PRIORITY_PINNED_CLIENT:
            return self._choose_pinned()
        if policy == PRIORITY_PRIORITIZED and requests:
            first = min(range(len(requests)), key=lambda at: _rank(requests[at]))
            requests.append(requests.pop(first))
            return requests[-1]
        for index, request in enumerate(requests):
            if policy != PRIORITY_OVERFLOW or self._overflows(_group(request)):
                return _to_the_end(requests, index)
        return None

    def _overflows(self, group: Group | None) -> bool:
        """Return whether so much is pending that a request of a group is served."""
        if group is None or not (group.min_pending > 0 or group.min_ack_pending > 0):
            return True
        core = self._consumer.core
        # The message itself counts, also one that is not among the pending because it was delivered before.
        pending = core.num_pending + core.num_redeliveries
        return 0 < group.min_pending <= pending or 0 < group.min_ack_pending <= core.num_ack_pending

    def _choose_pinned(self) -> Request | None:
        core = self._consumer.core
        fresh, self._fresh = self._fresh, None
        if fresh is not None and fresh.delivered == 0 and fresh not in core.requests:
            self._forget_pin()
        is_free = not self.pin
        for request in list(core.requests):
            group = _group(request)
            pin = group.pin if group is not None else ""
            if is_free and not pin:
                # One without a listener is chosen without a pin: the core drops it and asks again.
                if group is not None and self._consumer.has_interest(request.reply):
                    self._assign(group)
                    self._fresh = request
                return _to_the_end(core.requests, core.requests.index(request))
            if pin and pin == self.pin:
                return _to_the_end(core.requests, core.requests.index(request))
            if pin:
                core.remove_request(request)
                self._consumer.wrong_pin(request)
        return None

    # ---- pinning

    def _assign(self, group: Group) -> None:
        consumer = self._consumer
        self.pin = group.pin = unique_id()
        self._pinned_group = group.name
        self.pinned_ns = consumer.engine.now_ns()
        consumer.core.extra_headers = b"Nats-Pin-Id: %b\r\n" % self.pin.encode()
        self._extend_pin()
        consumer_advisories.pinned(consumer, group.name, self.pin)

    def _extend_pin(self) -> None:
        timeout_ns = self._consumer.config.priority_timeout
        self._pin_ends_ns = self._consumer.engine.now_ns() + timeout_ns
        if self._timer is None:
            self._timer = self._consumer.engine.later(timeout_ns / SECOND_NS, self._look_at_pin)

    def _look_at_pin(self) -> None:
        """Let the pinned client go if its time is over, else look again when it may be."""
        self._timer = None
        left_ns = self._pin_ends_ns - self._consumer.engine.now_ns()
        if left_ns > 0:
            self._timer = self._consumer.engine.later(left_ns / SECOND_NS, self._look_at_pin)
        else:
            self.unpin("timeout", self._pinned_group)

    def _forget_pin(self) -> None:
        self.pin = ""
        self.pinned_ns = 0
        self._consumer.core.extra_headers = b""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def unpin(self, reason: str, group: str) -> None:
        """Let another client of a group be pinned with its next request; reason: timeout or admin."""
        self._forget_pin()
        consumer_advisories.unpinned(self._consumer, group, reason)
        self._consumer.core.wake()
        self._consumer.asked()

    # ---- what the API shows

    def shown(self) -> list[dict[str, object]]:
        """Return the `priority_groups` member of the consumer's information."""
        shown: dict[str, object] = {"group": self._consumer.config.priority_groups[0]}
        if self.pin:
            shown["pinned_client_id"] = self.pin
        return [{**shown, "pinned_ts": format_time(self.pinned_ns)}]


def _to_the_end(requests: list[Request], index: int) -> Request:
    """Return a request after putting it and all that stand before it behind the others."""
    request = requests[index]
    requests[:] = requests[index + 1 :] + requests[: index + 1]
    return request


def _rank(request: Request) -> int:
    group = _group(request)
    return LAST if group is None else group.priority
