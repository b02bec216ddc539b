"""What may change in a stream's configuration after it was made.

Source: nats-server server/stream.go configUpdateCheckLocked, jetstream_versioning.go copyStreamMetadata.
"""

from workers.jetstream import apierrors
from workers.jetstream.stream_checks import check_discard_per_subject, check_features, check_replicas
from workers.jetstream.stream_config import DISCARD_NEW, WORKQUEUE, StreamConfig


def check_update(old: StreamConfig, new: StreamConfig) -> StreamConfig:
    """Check a new configuration against the one in force.

    Limits of the account, consumers in the way and other streams' subjects are the caller's to check, in
    this order, afterwards.

    Args:
        old: in force.
        new: as stream_checks.check returned it.
    Returns:
        The configuration to put in force.
    Raises:
        ApiError: 10052, 10055, 10074.
    """
    # nats-server checks an update twice, the second time with what the first has filled in.
    check_features(new)
    if new.name != old.name:
        raise _refuse("stream configuration name must match original")
    check_replicas(new)
    _check_unchanged(old, new)
    if new.sealed:
        # Pedantic requests let this pass, too: there is but one way to be sealed.
        return new.replace(
            max_age=0, discard=DISCARD_NEW, deny_delete=True, deny_purge=True, allow_rollup_hdrs=False
        )
    return new


def is_same(existing: StreamConfig, asked: StreamConfig) -> bool:
    """Tell whether a create request asks for what is there already; both checked."""
    return existing == asked


def _refuse(text: str) -> apierrors.ApiError:
    return apierrors.stream_invalid_config(text)


def _check_unchanged(old: StreamConfig, new: StreamConfig) -> None:
    what = "stream configuration update can not"
    if new.storage != old.storage:
        raise _refuse(f"{what} change storage type")
    if new.retention != old.retention and WORKQUEUE in (new.retention, old.retention):
        raise _refuse(f"{what} change retention policy to/from workqueue")
    if old.sealed and not new.sealed:
        raise _refuse(f"{what} unseal a sealed stream")
    if old.deny_delete and not new.deny_delete:
        raise _refuse(f"{what} cancel deny message deletes")
    if old.deny_purge and not new.deny_purge:
        raise _refuse(f"{what} cancel deny purge")
    # Taking the mirror away makes a stream of its own out of it.
    if new.mirror is not None and new.mirror != old.mirror:
        raise apierrors.stream_mirror_not_updatable()
    check_discard_per_subject(new)
    if old.allow_msg_ttl and not new.allow_msg_ttl:
        raise _refuse("message TTL status can not be disabled")
    if new.allow_msg_counter != old.allow_msg_counter:
        raise _refuse(f"{what} change message counter setting")
    if old.allow_msg_schedules and not new.allow_msg_schedules:
        raise _refuse("message schedules can not be disabled")
    if new.persist_mode != old.persist_mode:
        raise _refuse(f"{what} change persist mode")
