"""The information about a consumer that API answers carry, member for member in nats-server's order.

What Go leaves out when empty is left out here. Envelopes of answers are stream_json's, advisories are in
consumer_advisories.py.

Source: nats-server server/consumer.go ConsumerInfo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.jetstream.asset_metadata import consumer_config_json
from workers.jetstream.gojson import format_time

if TYPE_CHECKING:
    from workers.jetstream.consumer import Consumer


def _progress(consumer_sequence: int, stream_sequence: int, last_active_ns: int) -> dict[str, object]:
    value: dict[str, object] = {"consumer_seq": consumer_sequence, "stream_seq": stream_sequence}
    if last_active_ns:
        value["last_active"] = format_time(last_active_ns)
    return value


def consumer_info(consumer: Consumer, version: str | None = None) -> dict[str, object]:
    """Return a ConsumerInfo.

    Args:
        version: of the server for the metadata; None where answers do not tell, as in lists.
    """
    config, core = consumer.config, consumer.core
    state = core.state
    now_ns = consumer.engine.now_ns()
    value: dict[str, object] = {
        "stream_name": consumer.stream.name,
        "name": consumer.name,
        "created": format_time(consumer.created_ns),
        "config": consumer_config_json(config, version),
        "delivered": _progress(state.delivered_consumer, state.delivered_stream, core.last_delivered_ns),
        "ack_floor": _progress(state.floor_consumer, state.floor_stream, core.last_ack_ns),
        "num_ack_pending": core.num_ack_pending,
        # With one delivery at most there is nothing that could be redelivered.
        "num_redelivered": 0 if config.max_deliver == 1 else state.redelivered_count + core.num_given_up,
        "num_waiting": 0 if consumer.pull is None else len(core.requests),
        "num_pending": core.num_pending,
    }
    if consumer.push is not None and consumer.push.is_active:
        value["push_bound"] = True
    if now_ns < config.pause_until:
        value["paused"] = True
        value["pause_remaining"] = config.pause_until - now_ns
    value["ts"] = format_time(now_ns)
    if consumer.pull is not None and config.priority_groups:
        value["priority_groups"] = consumer.pull.priority.shown()
    return value


def pause_answer(until_ns: int, now_ns: int) -> dict[str, object]:
    """Return the members of the answer to CONSUMER.PAUSE.

    Args:
        until_ns: Unix time, 0: the consumer goes on.
    """
    answer: dict[str, object] = {"paused": now_ns < until_ns, "pause_until": format_time(until_ns)}
    if now_ns < until_ns:
        answer["pause_remaining"] = until_ns - now_ns
    return answer
