"""A push consumer's target: whether anybody listens, how fast it may go, flow control and heartbeats."""

from __future__ import annotations

import secrets
import string
from typing import TYPE_CHECKING

from workers.jetstream.delivery import Request
from workers.jetstream.pull import listen_for_requests
from workers.jetstream.statuses import status

if TYPE_CHECKING:
    from workers.jetstream.consumer import Consumer

SECOND_NS = 10**9
WINDOW_BYTES_MAX = 32 << 20
WINDOW_BYTES_FIRST = WINDOW_BYTES_MAX // 16
"""Unconfirmed bytes that flow control lets out at first; every confirmation doubles it, up to the most."""
FLOW_ID_LETTERS = 4
BURST_BYTES_MIN = 1 << 20
_LETTERS = string.ascii_letters + string.digits


class RateLimit:
    """A token bucket of bytes."""

    def __init__(self, bits_per_second: int, burst_bytes: int, now_ns: int) -> None:
        """Begin full."""
        self._rate = bits_per_second / 8
        self._burst = burst_bytes
        self._tokens = float(burst_bytes)
        self._filled_ns = now_ns

    def allowance(self, now_ns: int) -> int:
        """Return how many bytes may go now."""
        self._tokens = min(self._burst, self._tokens + (now_ns - self._filled_ns) * self._rate / SECOND_NS)
        self._filled_ns = now_ns
        return max(0, int(self._tokens))

    def take(self, count: int) -> None:
        """Count bytes that went; the last message may go beyond."""
        self._tokens -= count

    def ready_ns(self) -> int:
        """Return when a byte may go again."""
        if self._tokens >= 1:
            return self._filled_ns
        return self._filled_ns + int((1 - self._tokens) * SECOND_NS / self._rate) + 1


class PushTarget:
    """Where a push consumer delivers."""

    def __init__(self, consumer: Consumer) -> None:
        """Begin without a listener; `check_interest` looks for one."""
        self._consumer = consumer
        self._engine = consumer.engine
        self._request: Request | None = None
        self._window = WINDOW_BYTES_FIRST
        self._unconfirmed = 0
        self._asked_at = 0
        self._asked_reply = b""
        self._pull_listeners: list[int] = []
        self._rate: RateLimit | None = None
        self._heartbeat_at_ns = 0
        self.configure()

    def configure(self) -> None:
        """Take over the consumer's configuration."""
        config = self._consumer.config
        self.subject = config.deliver_subject.encode()
        self._queue = config.deliver_group.encode()
        self._rate = None
        if config.rate_limit_bps:
            burst = self._consumer.stream.config.max_msg_size
            if burst <= 0:
                burst = max(BURST_BYTES_MIN, self._engine.config.max_payload)
            self._rate = RateLimit(config.rate_limit_bps, burst, self._engine.now_ns())
        if self._request is not None and self._request.reply != self.subject:
            self.stop()

    def listen(self) -> None:
        """Take what clients answer to flow control, and refuse pull requests."""
        consumer = self._consumer
        self._pull_listeners = listen_for_requests(consumer, self._refuse)
        if consumer.config.flow_control:
            consumer.consumers.listen_for_flow()

    def close(self) -> None:
        """Stop delivering and listening."""
        self._engine.interest.remove(self)
        self.stop()
        while self._pull_listeners:
            self._engine.plane.unlisten(self._pull_listeners.pop())

    def _refuse(self, _subject: bytes, reply: bytes, _headers: bytes, _payload: bytes, _: int) -> None:
        self._consumer.stream.send_now(reply, b"", status(409, "Consumer is push based"))

    # ---- interest

    @property
    def is_active(self) -> bool:
        """Whether messages go out."""
        return self._request is not None

    @property
    def is_wanted(self) -> bool:
        """Whether somebody listens."""
        account = self._consumer.stream.account
        return self._engine.plane.has_interest(account, self.subject, queue=self._queue)

    def check_interest(self) -> None:
        """Begin when somebody listens, stop when nobody does."""
        config = self._consumer.config
        is_wanted = self.is_wanted
        if is_wanted and self._request is None:
            self._request = Request(self.subject, -1)
            self._unconfirmed = 0
            self._asked_reply = b""
            self._window = WINDOW_BYTES_FIRST
            self._heartbeat_at_ns = self._engine.now_ns() + config.idle_heartbeat
            self._consumer.core.add_request(self._request)
            self._consumer.asked()
        elif not is_wanted and self._request is not None:
            self.stop()

    def stop(self) -> None:
        """Deliver nothing until somebody listens again."""
        if self._request is not None:
            self._consumer.core.remove_request(self._request)
            self._request = None
            self._consumer.became_inactive()

    # ---- delivering

    def pump(self, now_ns: int) -> int:
        """Deliver as much as flow control and the rate allow; return how many messages."""
        sent = 0
        core = self._consumer.core
        while self._request is not None:
            request = self._request
            if self._is_to_be_confirmed():
                self._ask_for_confirmation()
            allowance = self._allowance(now_ns)
            if allowance == 0:
                break
            before = request.sent_bytes
            count = core.pump(now_ns, bytes_max=allowance)
            sent += count
            went = request.sent_bytes - before
            if self._rate is not None:
                self._rate.take(went)
            if self._consumer.config.flow_control:
                self._unconfirmed += went
            if self._is_to_be_confirmed():
                continue
            if count == 0 or core.is_ready or allowance < 0:
                break
        if sent:
            self._heartbeat_at_ns = now_ns + self._consumer.config.idle_heartbeat
        return sent

    def _allowance(self, now_ns: int) -> int:
        """Return the bytes that may go before something is to be decided, -1: no limit."""
        allowance = -1
        if self._consumer.config.flow_control:
            limit = self._window if self._asked_reply else self._window // 2
            allowance = max(0, limit - self._unconfirmed + 1)
        if self._rate is not None:
            rate = self._rate.allowance(now_ns)
            allowance = rate if allowance < 0 else min(allowance, rate)
        return allowance

    # ---- flow control

    def _is_to_be_confirmed(self) -> bool:
        """Return whether the client is to be asked: half a window is out without an answer."""
        is_controlled = self._consumer.config.flow_control
        return is_controlled and not self._asked_reply and self._unconfirmed > self._window // 2

    def _ask_for_confirmation(self) -> None:
        consumer = self._consumer
        end = "".join(secrets.choice(_LETTERS) for _ in range(FLOW_ID_LETTERS))
        self._asked_reply = f"$JS.FC.{consumer.stream.name}.{consumer.name}.{end}".encode()
        self._asked_at = self._unconfirmed
        self._engine.plane.publish(
            consumer.stream.account,
            self.subject,
            b"",
            reply=self._asked_reply,
            headers=b"NATS/1.0 100 FlowControl Request\r\n\r\n",
        )

    def flow_confirmed(self, subject: bytes, headers: bytes) -> None:
        """Go on when a client has answered to flow control."""
        if subject != self._asked_reply:
            return
        self._window = min(2 * self._window, WINDOW_BYTES_MAX)
        self._unconfirmed = max(0, self._unconfirmed - self._asked_at)
        self._asked_reply = b""
        self._consumer.flow_confirmed(headers)
        self._consumer.core.wake()
        self._consumer.asked()

    # ---- time

    def heartbeat_lines(self) -> bytes:
        """Return what a heartbeat says beside the sequences."""
        return b"Nats-Consumer-Stalled: %b\r\n" % self._asked_reply if self._asked_reply else b""

    def check(self, now_ns: int) -> None:
        """Send a heartbeat if one is due, and go on where the rate limit allows it again."""
        interval = self._consumer.config.idle_heartbeat
        if self._request is None:
            return
        if interval and now_ns >= self._heartbeat_at_ns:
            self.check_interest()
            if self._request is None:
                return
            self._engine.plane.publish(
                self._consumer.stream.account, self.subject, b"", headers=self._consumer.heartbeat()
            )
            self._heartbeat_at_ns = now_ns + interval
        if self._rate is not None:
            self._consumer.core.wake()

    def next_due_ns(self, now_ns: int) -> int:
        """Return when `check` has something to do, 0: never."""
        if self._request is None:
            return 0
        times = [self._heartbeat_at_ns] if self._consumer.config.idle_heartbeat else []
        if self._rate is not None and self._rate.allowance(now_ns) == 0:
            times.append(self._rate.ready_ns())
        return min(times, default=0)
