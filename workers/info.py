"""INFO lines: what a client is told about the server and itself."""

from __future__ import annotations

import json
import platform

from workers.config import WorkerConfig

API_LEVEL = 5
"""JetStream API level of nats-server 2.15; it says so even while JetStream is off."""


class InfoWriter:
    """Builds INFO lines; what is the same for all clients is encoded once."""

    def __init__(self, config: WorkerConfig) -> None:
        """Take the server's part from the configuration."""
        fields: dict[str, object] = {
            "server_id": config.server_id,
            "server_name": config.server_name,
            "version": config.version,
            "proto": 1,
            "go": f"python{platform.python_version()}",
            "host": config.host,
            "port": config.port,
            "headers": True,
        }
        if config.token or config.user:
            fields["auth_required"] = True
        fields["max_payload"] = config.max_payload
        if config.jetstream:
            fields["jetstream"] = True
        if config.jetstream:
            fields["jetstream"] = True
        self._head = json.dumps(fields, separators=(",", ":"))[:-1]
        self._connect_urls = list(config.connect_urls)
        self._domain = {"domain": config.js_domain} if config.jetstream and config.js_domain else {}
        self._tail = {"api_lvl": API_LEVEL, "midge": config.midge_version}
        self._usual_tail = self._encode_tail({})

    def _encode_tail(self, more: dict[str, object]) -> str:
        fields = {
            **self._domain,
            **({"connect_urls": self._connect_urls} if self._connect_urls else {}),
            **more,
            **self._tail,
        }
        return json.dumps(fields, separators=(",", ":"))[1:]

    def _line(self, client_id: int, ip: str, tail: str) -> bytes:
        return f'INFO {self._head},"client_id":{client_id},"client_ip":"{ip}",{tail} \r\n'.encode()

    def greeting(self, client_id: int, ip: str) -> bytes:
        """Return the first line of a connection."""
        return self._line(client_id, ip, self._usual_tail)

    def connected(self, client_id: int, ip: str, account: str) -> bytes:
        """Return the line that follows the first PONG."""
        return self._line(client_id, ip, self._encode_tail({"connect_info": True, "remote_account": account}))

    def lame_duck(self, client_id: int, ip: str) -> bytes:
        """Return the line that says that this server is about to stop; it names no URL of this server."""
        tail = json.dumps({**self._domain, "ldm": True, **self._tail}, separators=(",", ":"))[1:]
        return self._line(client_id, ip, tail)
