"""What the stream and its other consumers allow a consumer: limits on their number, work queues.

Source: nats-server server/stream.go partitionUnique, server/consumer.go addConsumerWithAssignmentAndMode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.jetstream import apierrors
from workers.jetstream.consumer_config import ACK_EXPLICIT, ACK_FLOW_CONTROL, DELIVER_ALL
from workers.jetstream.stream_config import WORKQUEUE
from workers.jetstream.subjects import collides

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.jetstream.consumer_config import ConsumerConfig
    from workers.jetstream.stream_config import StreamConfig

# What nats-server allows a stream that sets no limit in an account without one.
DEFAULT_MAX_CONSUMERS = 1000


def check_room(stream: StreamConfig, count: int, account_max: int) -> None:
    """Refuse one consumer more than there may be.

    Args:
        count: that the stream has. account_max: per stream, 0 or less for no limit.
    Raises:
        ApiError: 10026.
    """
    most = stream.max_consumers
    if most <= 0 or 0 < account_max < most:
        most = account_max
    if most <= 0:
        most = DEFAULT_MAX_CONSUMERS
    if count >= most:
        raise apierrors.maximum_consumers_limit()


def check_work_queue(
    config: ConsumerConfig, stream: StreamConfig, others: Iterable[ConsumerConfig], *, is_new: bool
) -> None:
    """Refuse what would give a work queue's message to two consumers.

    Args:
        config: checked. others: configurations of the stream's other consumers.
        is_new: an update may not change what only a new consumer is asked.
    Raises:
        ApiError: 10098, 10099, 10100, 10101.
    """
    if stream.retention != WORKQUEUE or config.direct:
        return
    others = [other for other in others if not other.direct]
    if is_new:
        if config.ack_policy not in (ACK_EXPLICIT, ACK_FLOW_CONTROL):
            raise apierrors.consumer_wq_requires_explicit_ack()
        if config.deliver_policy != DELIVER_ALL:
            raise apierrors.consumer_wq_consumer_not_deliver_all()
        if others and not config.filters:
            raise apierrors.consumer_wq_multiple_unfiltered()
    for subject in config.filters:
        for other in others:
            if not other.filters or any(collides(subject, filtered) for filtered in other.filters):
                raise apierrors.consumer_wq_consumer_not_unique()


def check_stream_update(
    old: StreamConfig, new: StreamConfig, consumers: Iterable[tuple[str, ConsumerConfig]]
) -> None:
    """Refuse new bounds of a stream that consumers exceed.

    Args:
        consumers: name and configuration of each.
    Raises:
        ApiError: 10069.
    """
    threshold, ack_pending = new.consumer_limits.inactive_threshold, new.consumer_limits.max_ack_pending
    is_new_threshold = threshold > 0 and threshold != old.consumer_limits.inactive_threshold
    is_new_pending = ack_pending > 0 and ack_pending != old.consumer_limits.max_ack_pending
    if not is_new_threshold and not is_new_pending:
        return
    violating = [
        name
        for name, config in consumers
        if 0 < threshold < config.inactive_threshold or 0 < ack_pending < config.max_ack_pending
    ]
    if violating:
        names = ", ".join(sorted(violating))
        raise apierrors.stream_update(f"change to limits violates consumers: {names}")
