"""What a consumer tells those who listen; nothing is built when nobody does (see advisories.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.jetstream import gojson

if TYPE_CHECKING:
    from workers.jetstream.consumer import Consumer

ADVISORY = "$JS.EVENT.ADVISORY.CONSUMER."
METRIC_ACK = "$JS.EVENT.METRIC.CONSUMER.ACK"
ACTIONS = {"create": "CREATED", "delete": "DELETED"}


def _send(consumer: Consumer, prefix: str, kind: str, fields: dict[str, object]) -> None:
    subject = f"{prefix}.{consumer.stream.name}.{consumer.name}"
    names: dict[str, object] = {"stream": consumer.stream.name, "consumer": consumer.name}
    if "account" in fields:
        names = {"account": fields["account"], **names}
    consumer.engine.advisories.send(consumer.stream.account, subject, kind, {**names, **fields})


def action(consumer: Consumer, what: str) -> None:
    """Tell that a consumer was created or deleted; what: create or delete."""
    _send(consumer, ADVISORY + ACTIONS[what], "advisory.v1.consumer_action", {"action": what})


def pause(consumer: Consumer) -> None:
    """Tell that a consumer is paused, or no longer."""
    until = gojson.format_time(consumer.config.pause_until)
    fields: dict[str, object] = {"paused": consumer.core.is_paused, "pause_until": until}
    _send(consumer, ADVISORY + "PAUSE", "advisory.v1.consumer_pause", fields)


def max_deliveries(consumer: Consumer, sequence: int, deliveries: int) -> None:
    """Tell that a message was delivered as often as it may be."""
    fields: dict[str, object] = {"stream_seq": sequence, "deliveries": deliveries}
    _send(consumer, ADVISORY + "MAX_DELIVERIES", "advisory.v1.max_deliver", fields)


def nak(consumer: Consumer, sequence: int, consumer_sequence: int, deliveries: int) -> None:
    """Tell that a client does not take a message now."""
    fields: dict[str, object] = {
        "consumer_seq": consumer_sequence,
        "stream_seq": sequence,
        "deliveries": deliveries,
    }
    _send(consumer, ADVISORY + "MSG_NAKED", "advisory.v1.nak", fields)


def terminated(
    consumer: Consumer, sequence: int, consumer_sequence: int, deliveries: int, reason: str
) -> None:
    """Tell that a client never wants a message again."""
    fields: dict[str, object] = {
        "consumer_seq": consumer_sequence,
        "stream_seq": sequence,
        "deliveries": deliveries,
    }
    if reason:
        fields["reason"] = reason
    _send(consumer, ADVISORY + "MSG_TERMINATED", "advisory.v1.terminated", fields)


def ack(consumer: Consumer, sequence: int, consumer_sequence: int, deliveries: int) -> None:
    """Tell how long a message took to be acknowledged."""
    delivered_ns = consumer.core.last_delivery_ns(sequence)
    fields: dict[str, object] = {
        "consumer_seq": consumer_sequence,
        "stream_seq": sequence,
        "ack_time": consumer.engine.now_ns() - delivered_ns,
        "deliveries": deliveries,
    }
    _send(consumer, METRIC_ACK, "metric.v1.consumer_ack", fields)


def pinned(consumer: Consumer, group: str, pin: str) -> None:
    """Tell which client a group is pinned to."""
    fields: dict[str, object] = {
        "account": consumer.stream.account_name,
        "group": group,
        "pinned_id": pin,
    }
    _send(consumer, ADVISORY + "PINNED", "advisory.v1.consumer_group_pinned", fields)


def unpinned(consumer: Consumer, group: str, reason: str) -> None:
    """Tell that a group is pinned to nobody; reason: timeout or admin."""
    fields: dict[str, object] = {
        "account": consumer.stream.account_name,
        "group": group,
        "reason": reason,
    }
    _send(consumer, ADVISORY + "UNPINNED", "advisory.v1.consumer_group_unpinned", fields)
