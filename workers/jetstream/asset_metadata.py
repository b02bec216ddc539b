"""What nats-server writes into the metadata of streams: versions and the API level that a server must have.

`_nats.req.level` belongs to the asset, `_nats.ver` and `_nats.level` tell about the server that answers and
appear in answers only. Configurations inside midge carry the user's metadata alone; all three are added
where a configuration is shown.

Source: nats-server server/jetstream_versioning.go.
"""

from workers.jetstream.stream_config import PERSIST_ASYNC, StreamConfig

# The API level of nats-server 2.15.
API_LEVEL = 5
REQUIRED_LEVEL_KEY = "_nats.req.level"
VERSION_KEY = "_nats.ver"
LEVEL_KEY = "_nats.level"
_KEYS = (REQUIRED_LEVEL_KEY, VERSION_KEY, LEVEL_KEY)


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


def is_level_supported(text: str) -> bool:
    """Tell whether the value of a Nats-Required-Api-Level header can be met; what is no number cannot."""
    digits = text.removeprefix("-") if text[:1] == "-" else text.removeprefix("+")
    return digits.isascii() and digits.isdigit() and int(text) <= API_LEVEL


def without_server_metadata(config: StreamConfig) -> StreamConfig:
    """Return the configuration with the user's metadata alone."""
    if not any(key in config.metadata for key in _KEYS):
        return config
    metadata = {key: value for key, value in config.metadata.items() if key not in _KEYS}
    return config.replace(metadata=metadata)


def config_json(config: StreamConfig, version: str | None = None) -> dict[str, object]:
    """Return the JSON object of a configuration with its required level.

    Args:
        version: of the server that answers; None where answers do not tell, as in lists and archives.
    """
    value = config.to_json()
    metadata = dict(config.metadata)
    metadata[REQUIRED_LEVEL_KEY] = str(required_level(config))
    if version is not None:
        metadata[VERSION_KEY] = version
        metadata[LEVEL_KEY] = str(API_LEVEL)
    value["metadata"] = dict(sorted(metadata.items()))
    return value
