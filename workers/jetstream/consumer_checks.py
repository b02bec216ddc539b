"""What a consumer's configuration may be, and what nats-server fills in.

check() fills in defaults and then walks nats-server's checkConsumerCfg in its order, so that of several
faults the same one is answered. What needs the stream's other consumers is in consumer_rules.py.

Source: nats-server server/consumer.go setConsumerConfigDefaults, checkConsumerCfg.
"""

import re
from dataclasses import dataclass

from workers.jetstream import apierrors, subjects
from workers.jetstream.asset_metadata import LEVEL_ENTRY_BYTES, METADATA_BYTES_MAX, user_metadata
from workers.jetstream.consumer_config import (
    ACK_ALL,
    ACK_EXPLICIT,
    ACK_FLOW_CONTROL,
    ACK_NONE,
    DELIVER_BY_START_SEQUENCE,
    DELIVER_BY_START_TIME,
    DELIVER_LAST_PER_SUBJECT,
    PRIORITY_NONE,
    PRIORITY_PINNED_CLIENT,
    ConsumerConfig,
)
from workers.jetstream.durations import format_duration
from workers.jetstream.gojson_quote import quote
from workers.jetstream.stream_config import LIMITS, WORKQUEUE, StreamConfig
from workers.jetstream.stream_rules import is_valid_name

DESCRIPTION_BYTES_MAX = 4 * 1024
NAME_BYTES_MAX = 255
MS_NS, SECOND_NS = 1_000_000, 1_000_000_000
MAX_WAITING = 512
ACK_WAIT_NS = 30 * SECOND_NS
MAX_ACK_PENDING = 1000
PIN_TIMEOUT_NS = 120 * SECOND_NS
# The only heartbeat that the flow control ack policy allows, and its default.
FLOW_CONTROL_HEARTBEAT_NS = SECOND_NS
# When a consumer that is not durable goes away if it does not say.
INACTIVE_THRESHOLD_NS = 5 * SECOND_NS
_SHORTEST_HEARTBEAT_NS = 100 * MS_NS

_GROUP = re.compile(r"[a-zA-Z0-9/_=-]{1,16}")
_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INT64_MAX = (1 << 63) - 1
# What is set back to a default when it is below zero, and what a pedantic request is told instead.
_NOT_NEGATIVE = (
    "max_batch",
    "max_expires",
    "max_bytes",
    "idle_heartbeat",
    "inactive_threshold",
    "priority_timeout",
)


@dataclass(frozen=True, slots=True)
class ConsumerLimits:
    """What server and account allow a consumer; 0 or less: anything.

    Attributes:
        max_ack_pending: of the server. account_max_ack_pending: of the account.
        max_request_batch: the most that one pull request may ask for.
    """

    max_ack_pending: int = 0
    account_max_ack_pending: int = -1
    max_request_batch: int = 0


def check(
    config: ConsumerConfig,
    stream: StreamConfig,
    limits: ConsumerLimits,
    *,
    is_pedantic: bool = False,
) -> ConsumerConfig:
    """Check a configuration and fill in what it leaves open.

    Args:
        config: as it came. stream: in force.
        limits: of server and account.
        is_pedantic: refuse instead of adjusting values.
    Returns:
        The configuration with defaults, the user's metadata alone; the inactive threshold of consumers that
        are not durable is stamp()'s.
    Raises:
        ApiError: the first rule that it breaks.
    """
    metadata = user_metadata(config.metadata)
    if metadata is not config.metadata:
        config = config.replace(metadata=metadata)
    config = _with_defaults(config, stream, limits, is_pedantic=is_pedantic)
    _check_names(config)
    _check_replicas(config, stream)
    _check_ack(config)
    _check_delivery(config, stream, limits)
    _check_stream_limits(config, stream, limits)
    _check_filters(config)
    _check_start(config)
    _check_rest(config)
    _check_priority(config)
    return config


def stamp(config: ConsumerConfig) -> ConsumerConfig:
    """Fill in when a consumer that is not durable goes away; nats-server does so after all checks."""
    if config.is_durable or config.inactive_threshold > 0:
        return config
    return config.replace(inactive_threshold=INACTIVE_THRESHOLD_NS)


def is_group_name(name: str) -> bool:
    """Tell whether a priority group may be called so."""
    return _GROUP.fullmatch(name) is not None


def _invalid(text: str) -> apierrors.ApiError:
    return apierrors.stream_invalid_config(text)


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


# ---- defaults


def _with_defaults(
    config: ConsumerConfig, stream: StreamConfig, limits: ConsumerLimits, *, is_pedantic: bool
) -> ConsumerConfig:
    config = _without_negatives(config, is_pedantic=is_pedantic)
    changes: dict[str, object] = {}
    if config.max_deliver == 0:
        changes["max_deliver"] = -1
    if config.is_pull and config.max_waiting == 0:
        changes["max_waiting"] = MAX_WAITING
    ack_wait = config.ack_wait
    if ack_wait == 0 and config.ack_policy in (ACK_EXPLICIT, ACK_ALL):
        ack_wait = ACK_WAIT_NS
    if config.backoff:
        if is_pedantic and ack_wait != config.backoff[0]:
            raise apierrors.pedantic("first backoff value has to equal batch AckWait")
        ack_wait = config.backoff[0]
    if ack_wait != config.ack_wait:
        changes["ack_wait"] = ack_wait
    for name in ("max_ack_pending", "inactive_threshold"):
        bound = getattr(stream.consumer_limits, name)
        if bound and getattr(config, name) == 0:
            if is_pedantic and bound > 0:
                raise apierrors.pedantic(f"{name} must be set if it's configured in stream limits")
            changes[name] = bound
    if not changes.get("max_ack_pending", config.max_ack_pending) and config.ack_policy != ACK_NONE:
        bounds = (limits.max_ack_pending, limits.account_max_ack_pending)
        changes["max_ack_pending"] = min((MAX_ACK_PENDING, *(bound for bound in bounds if bound > 0)))
    if config.is_pull and config.max_batch == 0 and limits.max_request_batch > 0:
        if is_pedantic:
            raise apierrors.pedantic("max_request_batch must be set if it's JetStream limits are set")
        changes["max_batch"] = limits.max_request_batch
    if config.priority_policy == PRIORITY_PINNED_CLIENT and config.priority_timeout == 0:
        changes["priority_timeout"] = PIN_TIMEOUT_NS
    if config.ack_policy == ACK_FLOW_CONTROL and not is_pedantic:
        changes["flow_control"] = True
        changes["idle_heartbeat"] = FLOW_CONTROL_HEARTBEAT_NS
    return config.replace(**changes)


def _without_negatives(config: ConsumerConfig, *, is_pedantic: bool) -> ConsumerConfig:
    changes: dict[str, object] = {}

    def put(name: str, value: int, refusal: str) -> None:
        if is_pedantic:
            raise apierrors.pedantic(f"{name} {refusal}")
        changes[name] = value

    if config.max_deliver < -1:
        put("max_deliver", -1, "must be set to -1")
    if config.max_waiting < 0:
        put("max_waiting", 0, "must not be negative")
    if config.max_ack_pending < -1:
        put("max_ack_pending", -1, "must be set to -1")
    for name in _NOT_NEGATIVE:
        if getattr(config, name) < 0:
            put(name, 0, "must not be negative")
    return config.replace(**changes)


# ---- checks, in nats-server's order


def _check_names(config: ConsumerConfig) -> None:
    if config.name and not is_valid_name(config.name):
        raise _invalid("consumer name can not contain '.', '*', '>', '\\', '/'")
    if config.durable_name and not is_valid_name(config.durable_name):
        raise _invalid("consumer durable name can not contain '.', '*', '>', '\\', '/'")


def _check_replicas(config: ConsumerConfig, stream: StreamConfig) -> None:
    if config.num_replicas > 0 and config.num_replicas > stream.num_replicas:
        raise apierrors.consumer_replicas_exceeds_stream()
    if config.num_replicas < 0:
        raise apierrors.replicas_count_cannot_be_negative()
    if stream.retention != LIMITS and config.num_replicas not in (0, stream.num_replicas):
        raise apierrors.consumer_replicas_should_match_stream()


def _check_ack(config: ConsumerConfig) -> None:
    if any(wait < 0 for wait in config.backoff):
        raise apierrors.consumer_back_off_negative()
    if config.ack_wait < 0:
        raise apierrors.consumer_ack_wait_negative()
    if config.ack_policy == ACK_FLOW_CONTROL:
        _check_ack_by_flow_control(config)
    if config.backoff and config.max_deliver != -1 and len(config.backoff) > config.max_deliver:
        raise apierrors.consumer_max_deliver_backoff()
    if _length(config.description) > DESCRIPTION_BYTES_MAX:
        raise apierrors.consumer_description_too_long(DESCRIPTION_BYTES_MAX)


def _check_ack_by_flow_control(config: ConsumerConfig) -> None:
    if config.is_pull:
        raise apierrors.consumer_ack_fc_requires_push()
    if not config.flow_control:
        raise apierrors.consumer_ack_fc_requires_fc()
    if config.idle_heartbeat != FLOW_CONTROL_HEARTBEAT_NS:
        raise _invalid("flow control ack policy heartbeat needs to be 1s")
    if config.max_ack_pending <= 0:
        raise apierrors.consumer_ack_fc_requires_max_ack_pending()
    if config.ack_wait or config.backoff:
        raise apierrors.consumer_ack_fc_requires_no_ack_wait()
    if config.max_deliver > 0:
        raise apierrors.consumer_ack_fc_requires_no_max_deliver()


def _check_delivery(config: ConsumerConfig, stream: StreamConfig, limits: ConsumerLimits) -> None:
    if config.is_push:
        if not subjects.is_literal(config.deliver_subject):
            raise apierrors.consumer_deliver_to_wildcards()
        if not subjects.is_valid_subject(config.deliver_subject):
            raise apierrors.consumer_invalid_deliver_subject()
        if any(subjects.is_subset(config.deliver_subject, subject) for subject in stream.subjects):
            raise apierrors.consumer_deliver_cycle()
        if config.max_waiting:
            raise apierrors.consumer_push_max_waiting()
        if config.max_ack_pending > 0 and config.ack_policy == ACK_NONE:
            raise apierrors.consumer_max_pending_ack_policy_required()
        if 0 < config.idle_heartbeat < _SHORTEST_HEARTBEAT_NS:
            raise apierrors.consumer_small_heartbeat()
        return
    if config.ack_policy == ACK_NONE and stream.retention == WORKQUEUE:
        raise apierrors.consumer_pull_requires_ack()
    if config.rate_limit_bps > 0:
        raise apierrors.consumer_pull_with_rate_limit()
    if config.idle_heartbeat > 0:
        raise apierrors.consumer_hb_requires_push()
    if config.flow_control:
        raise apierrors.consumer_fc_requires_push()
    if 0 < config.max_expires < MS_NS:
        raise apierrors.consumer_max_request_expires_too_small()
    if 0 < limits.max_request_batch < config.max_batch:
        raise apierrors.consumer_max_request_batch_exceeded(limits.max_request_batch)


def _check_stream_limits(config: ConsumerConfig, stream: StreamConfig, limits: ConsumerLimits) -> None:
    own = stream.consumer_limits
    for bound in (limits.max_ack_pending, limits.account_max_ack_pending, own.max_ack_pending):
        if 0 < bound < config.max_ack_pending:
            raise apierrors.consumer_max_pending_ack_excess(bound)
    if 0 < own.inactive_threshold < config.inactive_threshold:
        raise apierrors.consumer_inactive_threshold_excess(format_duration(own.inactive_threshold))
    if config.direct:
        if config.is_pull:
            raise apierrors.consumer_direct_requires_push()
        if config.is_durable:
            raise apierrors.consumer_direct_requires_ephemeral()


def _check_filters(config: ConsumerConfig) -> None:
    if config.filter_subject and config.filter_subjects:
        raise apierrors.consumer_duplicate_filter_subjects()
    if config.filter_subject and not subjects.is_valid_subject(config.filter_subject):
        raise _invalid("invalid subject")
    if "" in config.filter_subjects:
        raise apierrors.consumer_empty_filter()
    for index, subject in enumerate(config.filters):
        if not subjects.is_valid_subject(subject):
            raise _invalid("invalid subject")
        for other_index, other in enumerate(config.filters):
            if other_index != index and subjects.is_subset(subject, other):
                raise apierrors.consumer_overlapping_subject_filters()


def _check_start(config: ConsumerConfig) -> None:
    policy = config.deliver_policy
    words = policy.replace("_", " ")

    def also_set(what: str) -> apierrors.ApiError:
        text = f"consumer delivery policy is deliver {words}, but optional start {what} is also set"
        return apierrors.consumer_invalid_policy(text)

    def not_set(what: str) -> apierrors.ApiError:
        text = f"consumer delivery policy is deliver {words}, but optional {what} is not set"
        return apierrors.consumer_invalid_policy(text)

    has_sequence, has_time = config.opt_start_seq > 0, bool(config.opt_start_time_text)
    if policy == DELIVER_BY_START_SEQUENCE:
        if not has_sequence:
            raise not_set("start sequence")
        if has_time:
            raise also_set("time")
    elif policy == DELIVER_BY_START_TIME:
        if not has_time:
            raise not_set("start time")
        if has_sequence:
            raise also_set("start sequence")
    else:
        if has_sequence:
            raise also_set("sequence")
        if has_time:
            raise also_set("time")
        if policy == DELIVER_LAST_PER_SUBJECT and not config.filters:
            raise not_set("filter subject")


def _check_rest(config: ConsumerConfig) -> None:
    _check_sampling(config.sample_freq)
    if config.flow_control and config.idle_heartbeat == 0:
        raise apierrors.consumer_with_flow_control_needs_heartbeats()
    if config.durable_name and config.name and config.name != config.durable_name:
        raise apierrors.consumer_create_durable_and_name_mismatch()
    metadata_bytes = sum(_length(key) + _length(value) for key, value in config.metadata.items())
    if metadata_bytes + LEVEL_ENTRY_BYTES > METADATA_BYTES_MAX:
        raise apierrors.consumer_metadata_length(f"{METADATA_BYTES_MAX // 1024}KB")


def _check_sampling(text: str) -> None:
    if not text:
        return
    digits = text.removesuffix("%")
    fault = ""
    if _NUMBER.fullmatch(digits) is None:
        fault = f"strconv.Atoi: parsing {quote(digits)}: invalid syntax"
    elif not -_INT64_MAX - 1 <= int(digits) <= _INT64_MAX:
        fault = f"strconv.Atoi: parsing {quote(digits)}: value out of range"
    elif int(digits) < 0:
        fault = "<nil>"
    if fault:
        raise apierrors.consumer_invalid_sampling(fault)


def _check_priority(config: ConsumerConfig) -> None:
    if config.priority_policy == PRIORITY_NONE:
        if config.priority_groups:
            raise apierrors.consumer_priority_group_with_policy_none()
        if config.priority_timeout > 0:
            raise apierrors.consumer_pinned_ttl_without_priority_policy_none()
        return
    if config.is_push:
        raise apierrors.consumer_push_with_priority_group()
    if not config.priority_groups:
        raise apierrors.consumer_priority_policy_without_group()
    for group in config.priority_groups:
        if not group:
            raise apierrors.consumer_empty_group_name()
        if not is_group_name(group):
            raise apierrors.consumer_invalid_group_name()
