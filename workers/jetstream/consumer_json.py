"""What midge tells about consumers: their information as the API answers it, and their advisories.

Members stand in nats-server's order; what Go leaves out when empty is left out here. The answers' envelopes are
stream_json's.

Source: nats-server server/consumer.go ConsumerInfo, server/jetstream_events.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.jetstream.asset_metadata import consumer_config_json
from workers.jetstream.gojson import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.jetstream.consumer import Consumer
    from workers.jetstream.consumer_config import ConsumerConfig

ADVISORY = "$JS.EVENT.ADVISORY.CONSUMER."
METRIC = "$JS.EVENT.METRIC.CONSUMER."


@dataclass(frozen=True, slots=True)
class Progress:
    """How far deliveries or acknowledgements have come.

    Attributes:
        consumer_sequence, stream_sequence: the last one; 0: none yet.
        last_active_ns: Unix time of the last, 0: none since the start.
    """

    consumer_sequence: int
    stream_sequence: int
    last_active_ns: int = 0

    def to_json(self) -> dict[str, object]:
        """Return the JSON object."""
        value: dict[str, object] = {
            "consumer_seq": self.consumer_sequence,
            "stream_seq": self.stream_sequence,
        }
        if self.last_active_ns:
            value["last_active"] = format_time(self.last_active_ns)
        return value


def consumer_info(
    config: ConsumerConfig,
    *,
    stream: str,
    name: str,
    created_ns: int,
    now_ns: int,
    delivered: Progress,
    ack_floor: Progress,
    num_ack_pending: int,
    num_redelivered: int,
    num_waiting: int,
    num_pending: int,
    is_bound: bool = False,
    version: str | None = None,
    priority_groups: Sequence[dict[str, object]] = (),
) -> dict[str, object]:
    """Return a ConsumerInfo.

    Args:
        config: in force.
        created_ns, now_ns: Unix time.
        is_bound: a push consumer with somebody listening.
        version: of the server for the metadata; None where answers do not tell, as in lists.
        priority_groups: from Priority.shown.
    """
    value: dict[str, object] = {
        "stream_name": stream,
        "name": name,
        "created": format_time(created_ns),
        "config": consumer_config_json(config, version),
        "delivered": delivered.to_json(),
        "ack_floor": ack_floor.to_json(),
        "num_ack_pending": num_ack_pending,
        # With one delivery at most there is nothing that could be redelivered.
        "num_redelivered": 0 if config.max_deliver == 1 else num_redelivered,
        "num_waiting": num_waiting,
        "num_pending": num_pending,
    }
    if is_bound:
        value["push_bound"] = True
    value.update(_pause(config.pause_until, now_ns))
    value["ts"] = format_time(now_ns)
    if priority_groups:
        value["priority_groups"] = list(priority_groups)
    return value


def _pause(until_ns: int, now_ns: int) -> dict[str, object]:
    return {"paused": True, "pause_remaining": until_ns - now_ns} if now_ns < until_ns else {}


def pause_answer(until_ns: int, now_ns: int) -> dict[str, object]:
    """Return the members of the answer to CONSUMER.PAUSE."""
    answer: dict[str, object] = {"paused": now_ns < until_ns, "pause_until": format_time(until_ns)}
    if now_ns < until_ns:
        answer["pause_remaining"] = until_ns - now_ns
    return answer


# ---- advisories


def _advise(consumer: Consumer, event: str, kind: str, fields: dict[str, object]) -> None:
    stream = consumer.stream
    subject = f"{ADVISORY}{event}.{stream.name}.{consumer.name}"
    consumer.engine.advise(stream.account, subject, f"advisory.v1.{kind}", fields)


def _named(consumer: Consumer) -> dict[str, object]:
    return {"stream": consumer.stream.name, "consumer": consumer.name}


def _message(consumer: Consumer, sequence: int, consumer_sequence: int, deliveries: int) -> dict[str, object]:
    return {
        **_named(consumer),
        "consumer_seq": consumer_sequence,
        "stream_seq": sequence,
        "deliveries": deliveries,
    }


def advise_created(consumer: Consumer) -> None:
    """Tell that a consumer was made."""
    _advise(consumer, "CREATED", "consumer_action", {**_named(consumer), "action": "create"})


def advise_deleted(consumer: Consumer) -> None:
    """Tell that a consumer is gone."""
    _advise(consumer, "DELETED", "consumer_action", {**_named(consumer), "action": "delete"})


def advise_paused(consumer: Consumer) -> None:
    """Tell until when a consumer is paused, or that it goes on."""
    until_ns = consumer.config.pause_until
    paused = {"paused": consumer.engine.now_ns() < until_ns, "pause_until": format_time(until_ns)}
    _advise(consumer, "PAUSE", "consumer_pause", {**_named(consumer), **paused})


def advise_exhausted(consumer: Consumer, sequence: int, deliveries: int) -> None:
    """Tell that a message was delivered as often as it may be."""
    fields = {**_named(consumer), "stream_seq": sequence, "deliveries": deliveries}
    _advise(consumer, "MAX_DELIVERIES", "max_deliver", fields)


def advise_naked(consumer: Consumer, sequence: int, consumer_sequence: int, deliveries: int) -> None:
    """Tell that a client refused a message."""
    fields = _message(consumer, sequence, consumer_sequence, deliveries)
    _advise(consumer, "MSG_NAKED", "nak", fields)


def advise_terminated(
    consumer: Consumer, sequence: int, consumer_sequence: int, deliveries: int, reason: str = ""
) -> None:
    """Tell that a message is not to be delivered again; the reason is the client's, "" for none."""
    fields = _message(consumer, sequence, consumer_sequence, deliveries)
    if reason:
        fields["reason"] = reason
    _advise(consumer, "MSG_TERMINATED", "terminated", fields)


def advise_pinned(consumer: Consumer, group: str, pin_id: str) -> None:
    """Tell that a client of a group gets all messages from now on."""
    fields = {"account": consumer.stream.account_name, **_named(consumer), "group": group}
    _advise(consumer, "PINNED", "consumer_group_pinned", {**fields, "pinned_id": pin_id})


def advise_unpinned(consumer: Consumer, group: str, reason: str) -> None:
    """Tell that no client of a group is pinned any more; reason: admin or timeout."""
    fields = {"account": consumer.stream.account_name, **_named(consumer), "group": group}
    _advise(consumer, "UNPINNED", "consumer_group_unpinned", {**fields, "reason": reason})


def report_ack(
    consumer: Consumer, sequence: int, consumer_sequence: int, deliveries: int, delay_ns: int
) -> None:
    """Tell how long an acknowledgement took, as sampling asks for; not an advisory but a metric."""
    stream = consumer.stream
    fields = {
        **_named(consumer),
        "consumer_seq": consumer_sequence,
        "stream_seq": sequence,
        "ack_time": delay_ns,
        "deliveries": deliveries,
    }
    subject = f"{METRIC}ACK.{stream.name}.{consumer.name}"
    consumer.engine.advise(stream.account, subject, "metric.v1.consumer_ack", fields)
