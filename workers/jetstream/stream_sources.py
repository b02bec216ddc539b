"""Rules for mirrors and sources: what they may say, and that streams of one account form no cycle.

Source: nats-server server/stream.go checkStreamCfgLocked (mirror and source parts) and composeIName.
"""

from collections import deque
from collections.abc import Callable, Iterable

from workers.jetstream import apierrors, subjects
from workers.jetstream.gojson_quote import quote
from workers.jetstream.stream_config import External, StreamConfig, StreamSource
from workers.jetstream.stream_rules import Surroundings, is_valid_name
from workers.jetstream.transforms import TransformError, check_mapping

_API_PREFIX = "$JS.API"


def check_origins(config: StreamConfig, around: Surroundings) -> StreamConfig:
    """Check mirror and sources; mirror_direct follows the mirrored stream if it is of this account.

    Raises:
        ApiError: 10021..10055 about mirrors and sources, 10140..10217, 10052 for a cycle.
    """
    external: list[External] = []
    taken: list[str] = []
    if config.mirror is not None:
        _check_mirror_conflicts(config, config.mirror)
        if config.mirror.external is not None:
            # Its name may be this stream's own, on another server.
            external.append(config.mirror.external)
        else:
            config = _with_mirror_origin(config, config.mirror, around, taken)
    if config.sources:
        if config.allow_msg_schedules:
            raise apierrors.source_with_msg_schedules()
        _check_sources(config, around, taken)
        external.extend(one.external for one in config.sources if one is not None and one.external)
    _check_external(external, taken)
    _check_cycle(config, around.lookup)
    return config


def index_name(source: StreamSource) -> str:
    """Return what tells one source of a stream from another: name, place, filter and transforms."""
    name = source.name
    if source.external is not None:
        name += f":{source.external.api}"
    if source.consumer is not None:
        name += f":C={source.consumer.name}"
    if source.subject_transforms:
        filters = "\f".join(transform.src or ">" for transform in source.subject_transforms)
        destinations = "\f".join(transform.dest or ">" for transform in source.subject_transforms)
    else:
        filters, destinations = source.filter_subject or ">", ">"
    return f"{name} {filters} {destinations}"


def check_filters(config: StreamConfig) -> None:
    """Check the filter subjects, which nats-server does only when it makes the stream.

    Raises:
        ApiError: 10049.
    """
    mirror = config.mirror
    if mirror is not None and not mirror.subject_transforms:
        subject = mirror.filter_subject
        if subject and not subjects.is_valid_subject(subject):
            raise apierrors.stream_create(f"subject filter '{subject}' for the mirror invalid subject")
    for source in config.sources:
        if source is not None and not source.subject_transforms:
            subject = source.filter_subject
            if subject and not subjects.is_valid_subject(subject):
                raise apierrors.stream_create(f"subject filter '{subject}' for the source: invalid subject")


def _check_mirror_conflicts(config: StreamConfig, mirror: StreamSource) -> None:
    for is_wrong, error in (
        (config.first_seq > 0, apierrors.mirror_with_first_seq),
        (bool(config.subjects), apierrors.mirror_with_subjects),
        (bool(config.sources), apierrors.mirror_with_sources),
        (config.allow_msg_counter, apierrors.mirror_with_counters),
        (config.allow_atomic, apierrors.mirror_with_atomic_publish),
        (config.allow_batched, apierrors.mirror_with_batch_publish),
        (config.allow_msg_schedules, apierrors.mirror_with_msg_schedules),
        (_has_bad_consumer(mirror), apierrors.mirror_durable_consumer_cfg_invalid),
        (
            bool(mirror.filter_subject and mirror.subject_transforms),
            apierrors.mirror_multiple_filters_not_allowed,
        ),
    ):
        if is_wrong:
            raise error()
    if config.subject_delete_marker_ttl > 0:
        # Markers would take sequences that the origin does not have.
        raise apierrors.stream_invalid_config("subject delete markers forbidden on mirrors")
    for index, transform in enumerate(mirror.subject_transforms):
        _check_transform(
            transform.src,
            transform.dest,
            apierrors.mirror_invalid_subject_filter,
            apierrors.mirror_invalid_transform_destination,
        )
        if _meets_other(mirror, index, subjects.collides):
            raise apierrors.mirror_overlapping_subject_filters()


def _check_transform(
    src: str, dest: str, bad_source: apierrors.ErrorKind, bad_destination: apierrors.ErrorKind
) -> None:
    if src and not subjects.is_valid_subject(src):
        raise bad_source(f"invalid subject {src}")
    try:
        check_mapping(src, dest)
    except TransformError as error:
        raise bad_destination(error) from error


def _meets_other(source: StreamSource, index: int, test: Callable[[str, str], bool]) -> bool:
    src = source.subject_transforms[index].src
    return any(
        other != index and test(src, transform.src)
        for other, transform in enumerate(source.subject_transforms)
    )


def _has_bad_consumer(source: StreamSource) -> bool:
    """Tell whether a consumer made beforehand is named wrongly or has company it must not have."""
    consumer = source.consumer
    return consumer is not None and (
        not is_valid_name(consumer.name)
        or not subjects.is_valid_literal(consumer.deliver_subject)
        or source.opt_start_seq != 0
        or source.opt_start_time != ""
        or source.filter_subject != ""
    )


def _with_mirror_origin(
    config: StreamConfig, mirror: StreamSource, around: Surroundings, taken: list[str]
) -> StreamConfig:
    if not is_valid_name(mirror.name):
        raise apierrors.mirror_invalid_stream_name()
    origin = around.lookup(mirror.name)
    if origin is None:
        return config
    taken.extend(origin.subjects)
    if 0 < config.max_msg_size < origin.max_msg_size:
        raise apierrors.mirror_max_message_size_too_big()
    if around.is_pedantic and config.mirror_direct != origin.allow_direct:
        raise apierrors.pedantic("origin stream has direct get set, mirror has it disabled")
    return config.replace(mirror_direct=origin.allow_direct)


def _check_sources(config: StreamConfig, around: Surroundings, taken: list[str]) -> None:
    seen: set[str] = set()
    consumers: set[tuple[str, str, str]] = set()
    for source in config.sources:
        if source is None or not is_valid_name(source.name):
            raise apierrors.source_invalid_stream_name()
        name = index_name(source)
        if name in seen:
            raise apierrors.source_duplicate_detected()
        seen.add(name)
        _check_source_filters(source)
        if _has_bad_consumer(source):
            raise apierrors.source_durable_consumer_cfg_invalid()
        if source.consumer is not None:
            api = source.external.api if source.external is not None else ""
            key = (source.name, api, source.consumer.name)
            if key in consumers:
                raise apierrors.source_durable_consumer_duplicate_detected()
            consumers.add(key)
        if source.external is None:
            origin = around.lookup(source.name)
            if origin is not None:
                taken.extend(origin.subjects)
                if 0 < config.max_msg_size < origin.max_msg_size:
                    raise apierrors.source_max_message_size_too_big()


def _check_source_filters(source: StreamSource) -> None:
    if source.filter_subject and source.subject_transforms:
        raise apierrors.source_multiple_filters_not_allowed()
    for transform in source.subject_transforms:
        _check_transform(
            transform.src,
            transform.dest,
            apierrors.source_invalid_subject_filter,
            apierrors.source_invalid_transform_destination,
        )
    # Unlike a mirror's, filters of a source may overlap as long as none lies inside another.
    if any(
        _meets_other(source, index, subjects.is_subset) for index in range(len(source.subject_transforms))
    ):
        raise apierrors.source_overlapping_subject_filters()


def _check_external(external: Iterable[External], taken: Iterable[str]) -> None:
    prefixes = list(external)
    for prefix in [one.deliver for one in prefixes if one.deliver]:
        if not subjects.is_valid_literal(prefix):
            raise apierrors.stream_invalid_external_delivery_subj(prefix)
        for subject in taken:
            if subjects.collides(subject, f"{prefix}.{subject}"):
                raise apierrors.stream_external_del_prefix_overlaps(prefix, subject)
    for prefix in [one.api for one in prefixes if one.api]:
        if not subjects.is_valid_literal(prefix):
            raise apierrors.stream_invalid_config(
                f"stream external api prefix {quote(prefix)} must be a valid subject without wildcards"
            )
        if subjects.collides(prefix, _API_PREFIX):
            raise apierrors.stream_external_api_overlap(prefix, _API_PREFIX)


def _check_cycle(config: StreamConfig, lookup: Callable[[str], StreamConfig | None]) -> None:
    """Follow sources and mirrors of this account; coming back on subjects that meet is refused."""
    to_visit = deque([config])
    visited: set[str] = set()
    while to_visit:
        current = to_visit.popleft()
        visited.add(current.name)
        for source in current.sources:
            if source is None or source.external is not None:
                continue
            if source.name in visited:
                if _feeds(current, source):
                    raise apierrors.stream_invalid_config("detected cycle")
            elif (found := lookup(source.name)) is not None:
                to_visit.append(found)
        mirror = current.mirror
        if mirror is not None and mirror.external is None:
            if mirror.name in visited:
                raise apierrors.stream_invalid_config("detected cycle")
            if (found := lookup(mirror.name)) is not None:
                to_visit.append(found)


def _feeds(config: StreamConfig, source: StreamSource) -> bool:
    return not source.filter_subject or any(
        subjects.collides(subject, source.filter_subject) for subject in config.subjects
    )
