"""What nats-server writes into the metadata of streams and consumers: versions and the API level they need.

`_nats.req.level` belongs to the asset, `_nats.ver` and `_nats.level` tell about the server that answers and
appear in answers only. Configurations inside midge carry the user's metadata alone; all three are added
where a configuration is shown.

Source: nats-server server/jetstream_versioning.go.
"""

from collections.abc import Mapping

from workers.jetstream.consumer_config import ACK_FLOW_CONTROL, PRIORITY_NONE, ConsumerConfig
from workers.jetstream.stream_config import PERSIST_ASYNC, StreamConfig

# The API level of nats-server 2.15.
API_LEVEL = 5
REQUIRED_LEVEL_KEY = "_nats.req.level"
VERSION_KEY = "_nats.ver"
LEVEL_KEY = "_nats.level"
_KEYS = (REQUIRED_LEVEL_KEY, VERSION_KEY, LEVEL_KEY)
METADATA_BYTES_MAX = 128 * 1024
# nats-server counts the required level that it adds itself.
LEVEL_ENTRY_BYTES = len(REQUIRED_LEVEL_KEY) + 1


def required_level(config: StreamConfig) -> int:
    """Return the lowest API level of a server that can serve this stream."""
    if config.allow_batched:
        return 4
    if (
        config.allow_msg_counter
        or config.allow_atomic
        or config.allow_msg_schedules
        or config.persist_mode == PERSIST_ASYNC
    ):
        return 2
    return 1 if config.allow_msg_ttl or config.subject_delete_marker_ttl > 0 else 0


def consumer_required_level(config: ConsumerConfig) -> int:
    """Return the lowest API level of a server that can serve this consumer."""
    if config.ack_policy == ACK_FLOW_CONTROL:
        return 4
    has_priority = config.priority_policy != PRIORITY_NONE or config.priority_timeout != 0
    return 1 if config.pause_until or has_priority or config.priority_groups else 0


def is_level_supported(text: str) -> bool:
    """Tell whether the value of a Nats-Required-Api-Level header can be met; what is no number cannot."""
    digits = text.removeprefix("-") if text[:1] == "-" else text.removeprefix("+")
    return digits.isascii() and digits.isdigit() and int(text) <= API_LEVEL


def user_metadata(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """Return the user's own metadata."""
    if not any(key in metadata for key in _KEYS):
        return metadata
    return {key: value for key, value in metadata.items() if key not in _KEYS}


def without_server_metadata(config: StreamConfig) -> StreamConfig:
    """Return the configuration with the user's metadata alone."""
    return config.replace(metadata=user_metadata(config.metadata))


def config_json(config: StreamConfig, version: str | None = None) -> dict[str, object]:
    """Return the JSON object of a configuration with its required level.

    Args:
        version: of the server that answers; None where answers do not tell, as in lists and archives.
    """
    value = config.to_json()
    value["metadata"] = _shown(config.metadata, required_level(config), version)
    return value


def consumer_config_json(config: ConsumerConfig, version: str | None = None) -> dict[str, object]:
    """Return the JSON object of a consumer's configuration, as config_json."""
    return config.to_json(_shown(config.metadata, consumer_required_level(config), version))


def _shown(metadata: Mapping[str, str], level: int, version: str | None) -> dict[str, str]:
    shown = {**metadata, REQUIRED_LEVEL_KEY: str(level)}
    if version is not None:
        shown[VERSION_KEY] = version
        shown[LEVEL_KEY] = str(API_LEVEL)
    return dict(sorted(shown.items()))
