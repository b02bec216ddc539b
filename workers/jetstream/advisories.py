"""What JetStream tells those who listen: events of streams, and one audit record for every API call.

Nothing is built when nobody subscribes. Subjects, types and members are nats-server's
(server/jetstream_events.go).
"""

from __future__ import annotations

import secrets
import string
from typing import TYPE_CHECKING

from workers.jetstream import gojson

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.dataplane import DataPlane

PREFIX = "$JS.EVENT.ADVISORY."
AUDIT_SUBJECT = "$JS.EVENT.ADVISORY.API"
TYPE_PREFIX = "io.nats.jetstream."
STREAM_ACTIONS = {"create": "CREATED", "modify": "UPDATED", "delete": "DELETED"}

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH = 22


def unique_id() -> str:
    """Return 22 random letters and digits, as nats-server's nuid."""
    return "".join(secrets.choice(_DIGITS) for _ in range(ID_LENGTH))


class Advisories:
    """Sends advisories of one worker."""

    def __init__(self, plane: DataPlane, now_ns: Callable[[], int], domain: str) -> None:
        """Take where to send them, and the JetStream domain, "" for none."""
        self._plane = plane
        self._now_ns = now_ns
        self._domain = domain

    def send(self, account: int, subject: str, kind: str, fields: dict[str, object]) -> None:
        """Send an advisory if somebody is interested.

        Args:
            account: index of the account whose clients may see it.
            kind: its type after `io.nats.jetstream.`, such as `advisory.v1.stream_action`.
            fields: members after type, id and timestamp, in their order; the domain is added.
        """
        target = subject.encode()
        if not self._plane.has_interest(account, target):
            return
        advisory: dict[str, object] = {
            "type": TYPE_PREFIX + kind.removeprefix(TYPE_PREFIX),
            "id": unique_id(),
            "timestamp": gojson.format_time(self._now_ns()),
            **fields,
        }
        if self._domain:
            advisory["domain"] = self._domain
        self._plane.publish(account, target, gojson.encode(advisory))

    def stream_action(self, account: int, stream: str, action: str) -> None:
        """Tell that a stream was created, changed or deleted; action: create, modify or delete."""
        subject = f"{PREFIX}STREAM.{STREAM_ACTIONS[action]}.{stream}"
        self.send(account, subject, "advisory.v1.stream_action", {"stream": stream, "action": action})

    def wants_audit(self, account: int) -> bool:
        """Return whether anybody would get audit records."""
        return self._plane.has_interest(account, AUDIT_SUBJECT.encode())

    def audit(self, account: int, fields: dict[str, object]) -> None:
        """Send the record of an API call."""
        self.send(account, AUDIT_SUBJECT, "advisory.v1.api_audit", fields)
