"""The streams of an account as configurations alone: what CREATE and UPDATE answer by the modules under test.

No stream is made; the order of the checks is nats-server's (jsStreamCreateRequest, jsStreamUpdateRequest).
"""

from workers.jetstream import stream_checks, stream_sources, stream_update
from workers.jetstream.apierrors import (
    ApiError,
    stream_mismatch,
    stream_name_exist,
    stream_not_found,
    stream_subject_overlap,
)
from workers.jetstream.asset_metadata import config_json
from workers.jetstream.stream_config import StreamConfig
from workers.jetstream.stream_rules import ServerLimits
from workers.jetstream.subjects import overlap

LIMITS = ServerLimits()


class ConfigModel:
    """Answers requests about streams as a server does, as far as configurations go.

    Attributes:
        streams: name → configuration in force.
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self.streams: dict[str, StreamConfig] = {}

    def ask(self, operation: str, name: str, body: bytes) -> dict[str, object]:
        """Return `config` or `error` of the answer.

        Args:
            operation: CREATE or UPDATE.
            name: the stream's name in the request's subject.
        """
        try:
            config, is_pedantic = StreamConfig.parse(body)
            if operation == "CREATE":
                config = self._create(name, config, is_pedantic)
            else:
                config = self._update(name, config, is_pedantic)
        except ApiError as error:
            return {"error": error.to_json()}
        self.streams[name] = config
        return {"config": config_json(config, self.version)}

    def _create(self, name: str, config: StreamConfig, is_pedantic: bool) -> StreamConfig:
        stream_checks.check_create(config, name)
        config = self._check(config, is_pedantic)
        stream_checks.check_replicas(config)
        existing = self.streams.get(name)
        if existing is not None:
            if not stream_update.is_same(existing, config):
                raise stream_name_exist()
            return existing
        stream_sources.check_filters(config)
        self._check_apart(config)
        return config

    def _update(self, name: str, config: StreamConfig, is_pedantic: bool) -> StreamConfig:
        config = self._check(config, is_pedantic)
        if config.name != name:
            raise stream_mismatch()
        old = self.streams.get(name)
        if old is None:
            raise stream_not_found()
        config = stream_update.check_update(old, config)
        self._check_apart(config)
        return config

    def _check(self, config: StreamConfig, is_pedantic: bool) -> StreamConfig:
        return stream_checks.check(config, LIMITS, is_pedantic=is_pedantic, lookup=self.streams.get)

    def _check_apart(self, config: StreamConfig) -> None:
        for name, other in self.streams.items():
            if name != config.name and overlap(config.subjects, other.subjects):
                raise stream_subject_overlap()
