"""What a stream's configuration may be, and what nats-server fills in: create and update begin here.

check() walks nats-server's checkStreamCfg in its order, so that of several faults the same one is
answered, and returns the configuration with everything filled in. check_create() are the checks of a create
request that come first. What needs the account's other streams comes in through Surroundings.

Source: nats-server server/stream.go checkStreamCfgLocked, server/jetstream_api.go jsStreamCreateRequest.
"""

from collections.abc import Callable

from workers.jetstream import apierrors, subjects
from workers.jetstream.asset_metadata import (
    LEVEL_ENTRY_BYTES,
    METADATA_BYTES_MAX,
    without_server_metadata,
)
from workers.jetstream.durations import format_duration
from workers.jetstream.gojson_quote import quote
from workers.jetstream.stream_config import (
    DISCARD_NEW,
    FILE,
    LIMITS,
    MEMORY,
    PERSIST_ASYNC,
    Placement,
    Republish,
    StreamConfig,
)
from workers.jetstream.stream_rules import ServerLimits, Surroundings, is_valid_name, knows_none
from workers.jetstream.stream_sources import check_origins
from workers.jetstream.transforms import TransformError, check_mapping, make_transform

NAME_BYTES_MAX = 255
DESCRIPTION_BYTES_MAX = 4 * 1024
REPLICAS_MAX = 5

_MS, _S = 1_000_000, 1_000_000_000
_SHORTEST_NS = 100 * _MS
# The window in which message ids are remembered if the configuration does not say.
DUPLICATE_WINDOW_NS = 120 * _S

_API_SPACES = ("$JS.>", "$JSC.>", "$NRG.>")


def check_create(config: StreamConfig, name_in_subject: str) -> None:
    """Check what a create request must not say; before check().

    Raises:
        ApiError: 10056, 10128 or 10052.
    """
    if config.name != name_in_subject:
        raise apierrors.stream_mismatch()
    if "\\" in config.name or "/" in config.name:
        raise apierrors.stream_name_contains_path_separators()
    if config.sealed:
        raise _invalid("stream configuration for create can not be sealed")
    if config.mirror_direct and config.mirror is None:
        raise _invalid("stream has no mirror but does have mirror direct")


def check_replicas(config: StreamConfig) -> None:
    """Refuse replicas, which one server cannot have; after check().

    Raises:
        ApiError: 10074.
    """
    if config.num_replicas > 1:
        raise apierrors.stream_replicas_not_supported()


def check(
    config: StreamConfig,
    limits: ServerLimits,
    *,
    is_pedantic: bool = False,
    lookup: Callable[[str], StreamConfig | None] = knows_none,
) -> StreamConfig:
    """Check a configuration and fill in what it leaves open.

    Args:
        config: as it came; checking the result again gives the same result.
        limits: of server and account.
        is_pedantic: refuse instead of adjusting values.
        lookup: gives other streams of the account by name.
    Returns:
        The configuration as nats-server would show it; its metadata is the user's alone.
    Raises:
        ApiError: 10052, 10133, 10157 and the mirror, source, transform and limit errors.
    """
    around = Surroundings(limits, lookup, is_pedantic)
    config = without_server_metadata(config)
    _check_texts(config)
    config = _with_limits(config, around)
    config = _with_duplicate_window(config, around)
    check_features(config)
    config = _with_implied_features(config, around)
    _check_persist_mode(config)
    config = check_origins(config, around)
    config = _with_subjects(config)
    _check_max_bytes(config, around.limits)
    _check_subject_transform(config)
    config = _with_republish(config, around)
    return _with_placement(config)


def _invalid(text: str) -> apierrors.ApiError:
    return apierrors.stream_invalid_config(text)


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _check_texts(config: StreamConfig) -> None:
    if not is_valid_name(config.name):
        raise _invalid("stream name is required and can not contain '.', '*', '>', '\\', '/'")
    if _length(config.name) > NAME_BYTES_MAX:
        raise _invalid(f"stream name is too long, maximum allowed is {NAME_BYTES_MAX}")
    if _length(config.description) > DESCRIPTION_BYTES_MAX:
        raise _invalid(f"stream description is too long, maximum allowed is {DESCRIPTION_BYTES_MAX}")
    metadata_bytes = sum(_length(key) + _length(value) for key, value in config.metadata.items())
    if metadata_bytes + LEVEL_ENTRY_BYTES > METADATA_BYTES_MAX:
        raise _invalid(f"stream metadata exceeds maximum size of {METADATA_BYTES_MAX} bytes")


def _with_limits(config: StreamConfig, around: Surroundings) -> StreamConfig:
    replicas = config.num_replicas or 1
    if replicas > REPLICAS_MAX:
        raise _invalid(f"maximum replicas is {REPLICAS_MAX}")
    if replicas < 0:
        raise apierrors.replicas_count_cannot_be_negative()
    changes: dict[str, object] = {"num_replicas": replicas, "storage": config.storage or FILE}
    for name in ("max_msgs", "max_msgs_per_subject", "max_bytes", "max_msg_size", "max_consumers"):
        value = getattr(config, name)
        if value < -1 and around.is_pedantic:
            raise apierrors.pedantic(f"{name} must be set to -1")
        if value == 0 or value < -1:
            changes[name] = -1
    if config.max_age < 0:
        raise _invalid("max age can not be negative")
    if 0 < config.max_age < _SHORTEST_NS:
        raise _invalid("max age needs to be >= 100ms")
    return config.replace(**changes)


def _with_duplicate_window(config: StreamConfig, around: Surroundings) -> StreamConfig:
    window, limit, age = config.duplicate_window, around.limits.duplicate_window, config.max_age
    if window == 0 and config.mirror is None and not config.sources:
        window = DUPLICATE_WINDOW_NS
        if 0 < limit < window:
            if around.is_pedantic:
                raise apierrors.pedantic("duplicate window limits are higher than current limits")
            window = limit
        if 0 < age < window:
            if around.is_pedantic:
                raise apierrors.pedantic("duplicate window cannot be bigger than max age")
            window = age
    if window < 0:
        raise _invalid("duplicates window can not be negative")
    if 0 < age < window:
        raise _invalid("duplicates window can not be larger then max age")
    if 0 < limit < window:
        raise _invalid(f"duplicates window can not be larger then server limit of {format_duration(limit)}")
    if 0 < window < _SHORTEST_NS:
        raise _invalid("duplicates window needs to be >= 100ms")
    return config.replace(duplicate_window=window)


def check_features(config: StreamConfig) -> None:
    """Check features against each other.

    Raises:
        ApiError: 10052.
    """
    if config.deny_purge and config.allow_rollup_hdrs:
        raise _invalid("roll-ups require the purge permission")
    if config.allow_msg_counter:
        for is_wrong, text in (
            (config.discard == DISCARD_NEW, "cannot use discard new"),
            (config.allow_msg_ttl, "cannot use message TTLs"),
            (config.allow_msg_schedules, "cannot use message schedules"),
            (config.retention != LIMITS, "can only use limits retention"),
        ):
            if is_wrong:
                raise _invalid(f"counter stream {text}")
    check_discard_per_subject(config)


def check_discard_per_subject(config: StreamConfig) -> None:
    """Check what discard_new_per_subject needs.

    Raises:
        ApiError: 10052.
    """
    if config.discard_new_per_subject:
        if config.discard != DISCARD_NEW:
            raise _invalid("discard new per subject requires discard new policy to be set")
        if config.max_msgs_per_subject <= 0:
            raise _invalid("discard new per subject requires max msgs per subject > 0")


def _with_implied_features(config: StreamConfig, around: Surroundings) -> StreamConfig:
    marker_ttl = config.subject_delete_marker_ttl
    if marker_ttl < 0:
        raise _invalid("subject delete marker TTL must not be negative")
    if marker_ttl:
        if marker_ttl < _S:
            raise _invalid("subject delete marker TTL must be at least 1 second")
        if not config.allow_msg_ttl:
            if around.is_pedantic:
                raise _invalid("subject delete marker cannot be set if message TTLs are disabled")
            config = config.replace(allow_msg_ttl=True)
        config = _with_rollup(config, around, "subject delete marker cannot be set if roll-ups are disabled")
    if config.allow_msg_schedules:
        if config.discard == DISCARD_NEW:
            raise _invalid("message scheduling cannot use discard new")
        config = _with_rollup(config, around, "message scheduling cannot be set if roll-ups are disabled")
    return config


def _with_rollup(config: StreamConfig, around: Surroundings, refusal: str) -> StreamConfig:
    if config.allow_rollup_hdrs:
        return config
    if around.is_pedantic:
        raise _invalid(refusal)
    return config.replace(allow_rollup_hdrs=True, deny_purge=False)


def _check_persist_mode(config: StreamConfig) -> None:
    if config.persist_mode != PERSIST_ASYNC:
        return
    if config.storage != FILE:
        raise _invalid("async persist mode is only supported on file storage")
    if config.num_replicas > 1:
        raise _invalid("async persist mode is not supported on replicated streams")
    if config.allow_atomic:
        raise _invalid("async persist mode is not supported with atomic batch publish")


def _with_subjects(config: StreamConfig) -> StreamConfig:
    if not config.subjects:
        if config.mirror is None and not config.sources:
            return config.replace(subjects=(config.name,))
        return config
    for index, subject in enumerate(config.subjects):
        if not subjects.is_valid_subject(subject):
            raise _invalid("invalid subject")
        if subject in config.subjects[:index]:
            raise _invalid("duplicate subjects detected")
        _check_reserved(config, subject)
        for other in config.subjects[index + 1 :]:
            if subjects.collides(other, subject):
                raise _invalid(f"subject {quote(subject)} overlaps with {quote(other)}")
    return config


def _check_reserved(config: StreamConfig, subject: str) -> None:
    """Without an ack of its own a stream may listen to anything; with one it must not hear the API."""
    if subject == ">":
        if not config.no_ack:
            raise _invalid("capturing all subjects requires no-ack to be true")
        if config.num_replicas != 1:
            raise _invalid("capturing all subjects requires replicas of 1")
    if config.no_ack:
        return
    if not subjects.is_subset(subject, "$JS.EVENT.>") and any(
        subjects.collides(subject, space) for space in _API_SPACES
    ):
        raise _invalid("subjects that overlap with jetstream api require no-ack to be true")
    if subjects.collides(subject, "$SYS.>") and not subjects.is_subset(subject, "$SYS.ACCOUNT.>"):
        raise _invalid("subjects that overlap with system api require no-ack to be true")


def _check_max_bytes(config: StreamConfig, limits: ServerLimits) -> None:
    limit = limits.memory_max_stream_bytes if config.storage == MEMORY else limits.storage_max_stream_bytes
    if limits.max_bytes_required and config.max_bytes <= 0:
        raise apierrors.stream_max_bytes_required()
    if 0 < limit < config.max_bytes:
        raise apierrors.stream_max_stream_bytes_exceeded()


def _check_subject_transform(config: StreamConfig) -> None:
    transform = config.subject_transform
    if transform is None:
        return
    if transform.src and not subjects.is_valid_subject(transform.src):
        raise apierrors.stream_transform_invalid_source(f"invalid subject {transform.src}")
    try:
        check_mapping(transform.src, transform.dest)
    except TransformError as error:
        raise apierrors.stream_transform_invalid_destination(error) from error


def _with_republish(config: StreamConfig, around: Surroundings) -> StreamConfig:
    republish = config.republish
    if republish is None:
        return config
    if not republish.src:
        if around.is_pedantic:
            raise apierrors.pedantic("republish source can not be empty")
        republish = Republish(">", republish.dest, republish.headers_only)
    transform = config.subject_transform
    if (
        republish.src == republish.dest == ">"
        and transform is not None
        and config.subjects == (transform.src,)
    ):
        if around.is_pedantic:
            raise apierrors.pedantic("implicit republish based on subject transform")
        republish = Republish(transform.dest, transform.dest, republish.headers_only)
    if any(subjects.collides(republish.dest, subject) for subject in config.subjects):
        raise _invalid("stream configuration for republish destination forms a cycle")
    try:
        make_transform(republish.src, republish.dest)
    except TransformError as error:
        raise _invalid(
            f"stream configuration for republish with transform from '{republish.src}' "
            f"to '{republish.dest}' not valid"
        ) from error
    return config.replace(republish=republish)


def _with_placement(config: StreamConfig) -> StreamConfig:
    if config.placement == Placement():
        return config.replace(placement=None)
    if config.placement is not None and config.placement.preferred:
        raise _invalid("preferred server not permitted in placement")
    return config
