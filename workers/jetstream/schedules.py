"""Messages that are published later, once or again and again (allow_msg_schedules).

A message with Nats-Schedule is a schedule for its subject. When its time comes, a message made of it, or of
the last message of Nats-Schedule-Source, is stored on Nats-Schedule-Target. A schedule that came once is
purged with that; one that repeats writes its next time into the message it makes, from where a restart takes
it up. Any other message on the schedule's subject ends it.

    @at 2026-01-02T15:04:05Z     once             @every 90s      from one to the next, a second or more
    s m h dom mon dow            see cron.py      @yearly @annually @monthly @weekly @daily @midnight @hourly

Nothing about schedules is kept apart from the messages: what is in memory here is read from the store again.

Source: nats-server server/scheduler.go, server/stream.go.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol

from storage import queries
from storage.errors import StorageError
from storage.subjects import SubjectFilter
from workers.jetstream import apierrors, headers
from workers.jetstream.cron import CronError, Pattern
from workers.jetstream.durations import SECOND_NS, parse_duration, parse_ttl
from workers.jetstream.gojson_time import TimeError, format_time, parse_time
from workers.jetstream.subjects import collides, is_valid_literal

if TYPE_CHECKING:
    from storage.reader import Message
    from storage.stream import StreamStore
    from workers.jetstream.stream_config import StreamConfig

logger = logging.getLogger("jetstream")

PURGE = b"purge"
"""Value of Nats-Schedule-Next: with this message the schedule is over."""
_PREDEFINED = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
# A schedule of the past fires this much later, as one that comes in a burst should not stop the burst.
DELAY_MIN_S = 0.05


class Timer(Protocol):
    """What `later` returns."""

    def cancel(self) -> None: ...


def read_zone(block: bytes) -> tzinfo | None:
    """Return the zone of Nats-Schedule-Time-Zone, None if there is no such header.

    Raises:
        ApiError: 10223, no such zone.
    """
    name = headers.get(block, headers.SCHEDULE_TIME_ZONE)
    if name is None:
        return None
    if name in (b"UTC", b"Local"):
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name.decode())
    except (ValueError, OSError, KeyError) as error:
        raise apierrors.message_schedules_time_zone_invalid() from error


def next_time(text: str, zone: tzinfo | None, after_ns: int, now_ns: int) -> tuple[int, bool]:
    """Return the Unix ns at which a schedule fires next, and whether it fires again after that.

    Times between `after_ns` and `now_ns` are passed over for schedules that repeat: after a pause one message
    comes, not many.

    Raises:
        ValueError: it is no schedule.
    """
    if text.startswith("@at "):
        if zone is not None:
            raise ValueError("@at has its zone in its time")
        return parse_time(text[4:]), False
    if text.startswith("@every "):
        every_ns = parse_duration(text[7:])
        if zone is not None or every_ns is None or every_ns < SECOND_NS:
            raise ValueError("@every needs a second or more, and no zone")
        following = _round_to_second(after_ns) + every_ns
        return following if following >= now_ns else _round_to_second(now_ns) + every_ns, True
    pattern = Pattern.parse(_PREDEFINED.get(text, text))
    zone = zone or UTC
    following = pattern.next_after(after_ns // SECOND_NS, zone) * SECOND_NS
    if following < now_ns:
        following = pattern.next_after(_round_to_second(now_ns) // SECOND_NS, zone) * SECOND_NS
    return following, True


def _round_to_second(ns: int) -> int:
    return (ns + SECOND_NS // 2) // SECOND_NS * SECOND_NS


def schedule_of(block: bytes, after_ns: int, now_ns: int) -> tuple[int, bool]:
    """Return when the schedule in a header block fires and whether it repeats; (0, False): it has none.

    Raises:
        ApiError: 10223 or 10189.
    """
    zone = read_zone(block)
    text = headers.get(block, headers.SCHEDULE)
    if not text:
        return 0, False
    try:
        return next_time(text.decode("utf-8", "surrogateescape"), zone, after_ns, now_ns)
    except (CronError, TimeError, ValueError, OverflowError) as error:
        raise apierrors.message_schedules_pattern_invalid() from error


def check(
    config: StreamConfig,
    subject: bytes,
    block: bytes,
    now_ns: int,
    is_schedule: Callable[[bytes], bool | None],
) -> tuple[bytes, bool]:
    """Check the schedule headers of a message that is published.

    Args:
        is_schedule: tells of a subject whether its last message is a schedule; None: it has no message.
    Returns:
        The header block to store, and whether the message is a schedule.
    Raises:
        ApiError: 10188-10192, 10203, 10212, 10223, 10166.
    """
    is_one = False
    if headers.SCHEDULE in block:
        try:
            is_one = schedule_of(block, now_ns, now_ns)[0] != 0
        except apierrors.ApiError:
            if not config.allow_msg_schedules:
                raise apierrors.message_schedules_disabled() from None
            raise
        if is_one:
            block = _check_schedule(config, subject, block)
        _check_scheduler(config, subject, block, is_schedule)
    return block, is_one


def _check_schedule(config: StreamConfig, subject: bytes, block: bytes) -> bytes:
    ttl = headers.get(block, headers.SCHEDULE_TTL)
    if not config.allow_msg_schedules:
        raise apierrors.message_schedules_disabled()
    if ttl and parse_ttl(ttl) is None:
        raise apierrors.message_schedules_ttl_invalid()
    if headers.get(block, headers.SCHEDULE_ROLLUP) not in (None, b"", b"sub"):
        raise apierrors.message_schedules_rollup_invalid()
    if ttl and not config.allow_msg_ttl:
        raise apierrors.message_ttl_disabled()
    target = headers.get(block, headers.SCHEDULE_TARGET) or b""
    source = headers.get(block, headers.SCHEDULE_SOURCE) or b""
    if target == subject or not _is_publishable(target):
        raise apierrors.message_schedules_target_invalid()
    if source and (source in (target, subject) or not _is_publishable(source)):
        raise apierrors.message_schedules_source_invalid()
    if not _is_captured(config, target):
        raise apierrors.message_schedules_target_invalid()
    if source and not _is_captured(config, source):
        raise apierrors.message_schedules_source_invalid()
    rollup = headers.get(block, headers.ROLLUP)
    if not rollup:
        return headers.add(block, headers.ROLLUP, b"sub")
    if rollup.lower() != b"sub":
        raise apierrors.message_schedules_rollup_invalid()
    return block


def _check_scheduler(
    config: StreamConfig, subject: bytes, block: bytes, is_schedule: Callable[[bytes], bool | None]
) -> None:
    following = headers.get(block, headers.SCHEDULE_NEXT)
    scheduler = headers.get(block, headers.SCHEDULER) or b""
    if not following:
        if scheduler:
            raise apierrors.message_schedules_scheduler_invalid()
        return
    if following != PURGE or scheduler == subject or not _is_publishable(scheduler):
        raise apierrors.message_schedules_scheduler_invalid()
    if not config.allow_msg_schedules:
        raise apierrors.message_schedules_disabled()
    if is_schedule(scheduler) is False:
        raise apierrors.message_schedules_scheduler_invalid()


def _is_publishable(subject: bytes) -> bool:
    return is_valid_literal(subject.decode("utf-8", "surrogateescape"))


def _is_captured(config: StreamConfig, subject: bytes) -> bool:
    text = subject.decode("utf-8", "surrogateescape")
    return any(collides(pattern, text) for pattern in config.subjects)


def message_of(
    schedule: Message, source: Message | None, fires_ns: int, now_ns: int
) -> tuple[bytes, bytes, bytes]:
    """Return subject, header block and payload of the message that a schedule makes.

    Args:
        source: the last message of Nats-Schedule-Source, None: take the schedule's own.
        fires_ns: the time for which it was planned.
    Raises:
        ApiError: it is no schedule.
    """
    following, repeats = schedule_of(schedule.headers, fires_ns, now_ns)
    target = headers.get(schedule.headers, headers.SCHEDULE_TARGET)
    if not following or not target:
        raise apierrors.message_schedules_pattern_invalid()
    content = source or schedule
    block = headers.remove_prefix(content.headers, headers.SCHEDULE)
    block = headers.remove_prefix(block, b"Nats-Expected-")
    for name in (headers.MESSAGE_ID, headers.TTL, headers.ROLLUP):
        block = headers.remove(block, name)
    block = headers.add(block, headers.SCHEDULER, schedule.subject)
    next_text = _format_local(following, read_zone(schedule.headers)) if repeats else PURGE
    block = headers.add(block, headers.SCHEDULE_NEXT, next_text)
    for name, wanted in ((headers.TTL, headers.SCHEDULE_TTL), (headers.ROLLUP, headers.SCHEDULE_ROLLUP)):
        value = headers.get(schedule.headers, wanted)
        if value:
            block = headers.add(block, name, value)
    return target, block, content.payload


def _format_local(ns: int, zone: tzinfo | None) -> bytes:
    """Return a time as the clocks of a zone show it, None: of UTC."""
    if zone is None:
        return format_time(ns).encode()
    text = datetime.fromtimestamp(ns // SECOND_NS, zone).isoformat()
    return text.replace("+00:00", "Z").encode()


class Schedules:
    """The schedules of one stream, and the timer of the next."""

    def __init__(
        self,
        store: StreamStore,
        publish: Callable[[bytes, bytes, bytes], object],
        later: Callable[[float, Callable[[], None]], Timer],
        now_ns: Callable[[], int],
    ) -> None:
        """Begin without any; `load` reads them.

        Args:
            publish: stores a message that a schedule made: subject, header block, payload.
            later: calls back after so many seconds.
        """
        self._store = store
        self._publish = publish
        self._later = later
        self._now_ns = now_ns
        self._by_subject: dict[bytes, tuple[int, int]] = {}
        # (time, sequence, subject); one that `_by_subject` does not have so is over.
        self._heap: list[tuple[int, int, bytes]] = []
        self._timer: Timer | None = None
        self._timer_ns = 0
        self._is_firing = False

    def __len__(self) -> int:
        return len(self._by_subject)

    def close(self) -> None:
        """Forget everything."""
        self._by_subject.clear()
        self._heap.clear()
        self._set_timer()

    def load(self) -> None:
        """Read the schedules from the store: a schedule is the last message of its subject."""
        self.close()
        for sequence in queries.last_sequences(self._store, SubjectFilter(self._store.subjects, (b">",))):
            message = self._get(int(sequence))
            if message is None or headers.SCHEDULE not in message.headers:
                continue
            fires_ns = self._resumes_at(message)
            if fires_ns:
                self._put(message.subject, message.sequence, fires_ns)
        self._set_timer()

    def _resumes_at(self, schedule: Message) -> int:
        try:
            fires_ns, repeats = schedule_of(schedule.headers, schedule.timestamp_ns, self._now_ns())
        except apierrors.ApiError:
            return 0
        made = self._last(headers.get(schedule.headers, headers.SCHEDULE_TARGET)) if repeats else None
        if made and made.sequence > schedule.sequence and _scheduler_of(made) == schedule.subject:
            return _time_of(headers.get(made.headers, headers.SCHEDULE_NEXT)) or fires_ns
        return fires_ns

    def stored(self, sequence: int, subject: bytes, block: bytes, timestamp_ns: int) -> None:
        """Take notice of a message that has been stored: it may begin, move or end a schedule."""
        scheduler = headers.get(block, headers.SCHEDULER) if block else None
        try:
            fires_ns = schedule_of(block, timestamp_ns, self._now_ns())[0] if block else 0
        except apierrors.ApiError:
            fires_ns = 0
        if fires_ns:
            self._put(subject, sequence, fires_ns)
        elif not scheduler:
            self._by_subject.pop(subject, None)
        if scheduler in self._by_subject:
            following = _time_of(headers.get(block, headers.SCHEDULE_NEXT))
            if following:
                self._put(scheduler, self._by_subject[scheduler][0], following)
        self._set_timer()

    def remove(self, subject: bytes) -> None:
        """Forget the schedule of a subject, if there is one."""
        self._by_subject.pop(subject, None)

    def _put(self, subject: bytes, sequence: int, fires_ns: int) -> None:
        if self._by_subject.get(subject) == (sequence, fires_ns):
            return
        self._by_subject[subject] = (sequence, fires_ns)
        heappush(self._heap, (fires_ns, sequence, subject))

    def _set_timer(self) -> None:
        """Have the timer run at the first time there is."""
        if self._is_firing:
            return
        while self._heap and self._by_subject.get(self._heap[0][2]) != self._heap[0][1::-1]:
            heappop(self._heap)
        fires_ns = self._heap[0][0] if self._heap else 0
        if fires_ns == self._timer_ns:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_ns = None, fires_ns
        if fires_ns:
            delay_s = max((fires_ns - self._now_ns()) / SECOND_NS, DELAY_MIN_S)
            # Far times in steps: a loop's clock and the wall's do not go alike for weeks.
            self._timer = self._later(min(delay_s, 3600.0), self._fire)

    def _fire(self) -> None:
        """Publish what is due."""
        self._timer, self._timer_ns = None, 0
        self._is_firing = True
        now_ns = self._now_ns()
        due = []
        while self._heap and self._heap[0][0] <= now_ns:
            fires_ns, sequence, subject = heappop(self._heap)
            if self._by_subject.get(subject) == (sequence, fires_ns):
                due.append((sequence, subject, fires_ns))
        try:
            for sequence, subject, fires_ns in sorted(due):
                self._fire_one(sequence, subject, fires_ns)
        finally:
            self._is_firing = False
            self._set_timer()

    def _fire_one(self, sequence: int, subject: bytes, fires_ns: int) -> None:
        schedule = self._get(sequence)
        newest = self._last(subject)
        self._by_subject.pop(subject, None)
        if schedule is None or newest is None:
            return
        if newest.sequence != sequence and not _scheduler_of(newest):
            return
        source = self._last(headers.get(schedule.headers, headers.SCHEDULE_SOURCE))
        try:
            target, block, payload = message_of(schedule, source, fires_ns, self._now_ns())
        except apierrors.ApiError as error:
            logger.warning("schedule_dropped subject=%r sequence=%d reason=%s", subject, sequence, error)
            return
        following = _time_of(headers.get(block, headers.SCHEDULE_NEXT))
        if following:
            self._put(subject, sequence, following)
        self._publish(target, block, payload)

    def _get(self, sequence: int) -> Message | None:
        try:
            return self._store.get(sequence)
        except StorageError as error:
            logger.warning("schedule_unreadable sequence=%d error=%s", sequence, error)
            return None

    def _last(self, subject: bytes | None) -> Message | None:
        sequence = queries.last_sequence_of(self._store, subject) if subject else None
        return self._get(sequence) if sequence else None


def _scheduler_of(message: Message) -> bytes | None:
    return headers.get(message.headers, headers.SCHEDULER)


def _time_of(value: bytes | None) -> int:
    """Return the Unix ns of a Nats-Schedule-Next, 0 if it is none."""
    if not value or value == PURGE:
        return 0
    try:
        return parse_time(value.decode("utf-8", "surrogateescape"))
    except TimeError:
        return 0
