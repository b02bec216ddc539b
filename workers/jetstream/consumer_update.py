"""What may change in a consumer's configuration after it was made.

Source: nats-server server/consumer.go checkNewConsumerConfig.
"""

from collections.abc import Callable

from workers.jetstream import apierrors
from workers.jetstream.consumer_config import ConsumerConfig

# Members that stay, in the order in which nats-server looks at them, and what it calls them.
_FIXED = (
    ("deliver_policy", "deliver policy"),
    ("mem_storage", "storage type"),
    ("direct", "direct"),
    ("sourcing", "sourcing"),
    ("opt_start_seq", "start sequence"),
    ("opt_start_time", "start time"),
    ("ack_policy", "ack policy"),
    ("replay_policy", "replay policy"),
    ("idle_heartbeat", "heart beats"),
    ("flow_control", "flow control"),
)


def check_update(old: ConsumerConfig, new: ConsumerConfig, has_interest: Callable[[str], bool]) -> None:
    """Check a new configuration against the one in force.

    Args:
        old: in force. new: as consumer_checks.check returned it.
        has_interest: whether anybody listens to a subject; a deliver subject in use stays.
    Raises:
        ApiError: 10012, 10013, 10116.
    """
    if new == old:
        return
    for name, what in _FIXED:
        if getattr(new, name) != getattr(old, name):
            raise _refuse(f"{what} can not be updated")
    if bool(new.opt_start_time_text) != bool(old.opt_start_time_text):
        raise _refuse("start time can not be updated")
    if new.deliver_subject != old.deliver_subject:
        if old.is_pull:
            raise _refuse("can not update pull consumer to push based")
        if new.is_pull:
            raise _refuse("can not update push consumer to pull based")
        if has_interest(old.deliver_subject):
            raise apierrors.consumer_name_exist()
    if new.max_waiting != old.max_waiting:
        raise _refuse("max waiting can not be updated")
    if new.backoff and new.max_deliver != -1 and len(new.backoff) > new.max_deliver:
        raise apierrors.consumer_max_deliver_backoff()


def _refuse(text: str) -> apierrors.ApiError:
    return apierrors.consumer_create(text)
