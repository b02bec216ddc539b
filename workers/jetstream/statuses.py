"""Status messages: what a pull request is told when it ends otherwise than with its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.jetstream.delivery import Request


def status(code: int, text: str, request: Request | None = None) -> bytes:
    """Return the header block of a status message, with what is left of a request if one is given."""
    line = f"NATS/1.0 {code} {text}\r\n"
    if request is not None:
        left = max(0, request.bytes_left)
        messages = request.remaining + getattr(request.info, "shown_more", 0)
        line += f"Nats-Pending-Messages: {messages}\r\nNats-Pending-Bytes: {left}\r\n"
    return f"{line}\r\n".encode()
