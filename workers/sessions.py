"""The clients of a worker as people: who they are, whether they may connect, what is logged about them.

The data plane asks this object whenever something is to be decided (its `policy`); nothing here runs per
message.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workers import dataplane
from workers.auth import Authenticator
from workers.config import WorkerConfig
from workers.connect import ConnectOptions, parse_connect, parse_object
from workers.errors import (
    AuthorizationViolation,
    BadClientProtocol,
    BadConnect,
    CloseReason,
    MaximumConnectionsExceeded,
    NoRespondersRequiresHeaders,
)
from workers.info import InfoWriter
from workers.log import ERROR, Log

if TYPE_CHECKING:
    from workers.dataplane import DataPlane

DEFAULT_ACCOUNT = "$G"
SLOW_CONSUMER = (CloseReason.SLOW_CONSUMER_PENDING_BYTES, CloseReason.SLOW_CONSUMER_WRITE_DEADLINE)


NOTHING_SAID = ConnectOptions()


class Session:
    """One connection: what is known beside its counters, which the data plane keeps."""

    __slots__ = ("client_id", "handle", "ip", "options", "port", "start_ns")

    def __init__(self, client_id: int, ip: str, port: int) -> None:
        """Note where it comes from; the rest comes with CONNECT."""
        self.client_id = client_id
        self.ip = ip
        self.port = port
        self.start_ns = time.time_ns()
        self.handle = 0
        self.options = NOTHING_SAID

    def __str__(self) -> str:
        """Name it as nats-server's log does."""
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        said = self.options
        about = f' - "v{said.version}:{said.lang}:{said.name}"' if said.lang or said.name else ""
        return f"{host}:{self.port} - cid:{self.client_id}{about}"


class Sessions:
    """All connections of this worker, by client id."""

    def __init__(self, config: WorkerConfig, log: Log) -> None:
        """Start without any; `plane` is set once it exists."""
        self.plane: DataPlane
        self._config = config
        self._log = log
        self._info = InfoWriter(config)
        self._auth = Authenticator(token=config.token, user=config.user, password=config.password)
        self._sessions: dict[int, Session] = {}
        self._checks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Return how many connections there are."""
        return len(self._sessions)

    # ---- coming and going

    def open(self, descriptor: int, client_id: int, ip: str, port: int, *, over_limit: bool) -> None:
        """Serve an accepted connection, or tell it that there are too many; the descriptor is taken over."""
        session = Session(client_id, ip, port)
        self._sessions[client_id] = session
        session.handle = self.plane.open_client(
            descriptor, client_id, self._auth.is_required, self._info.greeting(client_id, ip)
        )
        if self._log.is_debug:
            self._log.debug(f"{session} - Client connection created")
        if over_limit:
            self._log.limited("max connections", f"{session} - maximum connections exceeded", level=ERROR)
            self.plane.refuse(session.handle, MaximumConnectionsExceeded())

    def closed(self, client_id: int, reason: int, stats: dict[str, int]) -> None:
        """Forget a connection; called by the data plane, after which its handle is void."""
        session = self._sessions.pop(client_id)
        why = CloseReason(reason)
        if why in SLOW_CONSUMER:
            self._log.limited(
                "slow consumer",
                f"{session} - Slow Consumer Detected: {why.text}, {stats['pending_bytes']} bytes pending",
            )
        if self._log.is_debug:
            self._log.debug(f"{session} - Client connection closed: {why.text}")

    def end_all(self) -> None:
        """Close every connection after what is queued for it; for the end of the server."""
        for session in self._sessions.values():
            self.plane.fail(session.handle, b"", CloseReason.SERVER_SHUTDOWN)

    def end_one(self) -> None:
        """Close the oldest connection; for lame duck mode."""
        for session in self._sessions.values():
            self.plane.fail(session.handle, b"", CloseReason.SERVER_SHUTDOWN)
            return

    def announce_lame_duck(self) -> None:
        """Tell every client that understands it that this server is about to stop."""
        for session in self._sessions.values():
            if session.options.protocol >= 1:
                self.plane.send(session.handle, self._info.lame_duck(session.client_id, session.ip))

    def describe(self, client_id: int) -> dict[str, object]:
        """Return what others are told of a client, as nats-server's ClientInfo; {} when it has gone.

        `start` is in Unix nanoseconds.
        """
        session = self._sessions.get(client_id)
        if session is None:
            return {}
        said = session.options
        stated = {
            "user": said.user,
            "name": said.name,
            "lang": said.lang,
            "ver": said.version,
            "rtt": self.plane.stats(session.handle)["rtt_ns"],
        }
        return {
            "start": session.start_ns,
            "host": session.ip,
            "id": client_id,
            "acc": DEFAULT_ACCOUNT,
            **{key: value for key, value in stated.items() if value},
            "server": self._config.server_name,
            "kind": "Client",
            "client_type": "nats",
        }

    # ---- what the data plane asks

    def connect(self, client_id: int, text: bytes) -> int | None:
        """Decide on a CONNECT.

        Returns:
            The connection's options (dataplane.OPTION_*), or None when the answer will come by plane.allow
            or refuse.
        Raises:
            ProtocolError: the connection is to be refused.
        """
        session = self._sessions[client_id]
        try:
            options = parse_connect(text, session.options)
        except BadConnect as error:
            self._log.limited("bad connect", f"{session} - CONNECT: {error}", level=ERROR)
            raise
        session.options = options
        answer = self._auth.check(token=options.auth_token, user=options.user, password=options.password)
        if callable(answer):
            task = asyncio.get_running_loop().create_task(self._check_later(session, options, answer))
            self._checks.add(task)
            task.add_done_callback(self._checks.discard)
            return None
        return self._decide(session, options, answer)

    def _decide(self, session: Session, options: ConnectOptions, is_allowed: bool) -> int:
        if not is_allowed or options.account or options.new_account:
            self._log.limited(
                "auth", f"{session} - authentication error - User {options.user!r}", level=ERROR
            )
            raise AuthorizationViolation
        if options.protocol not in (0, 1):
            raise BadClientProtocol
        if options.no_responders and not options.headers:
            raise NoRespondersRequiresHeaders
        return (
            dataplane.OPTION_VERBOSE * options.verbose
            | dataplane.OPTION_PEDANTIC * options.pedantic
            | dataplane.OPTION_NO_ECHO * (not options.echo)
            | dataplane.OPTION_HEADERS * options.headers
            | dataplane.OPTION_NO_RESPONDERS * options.no_responders
            | dataplane.OPTION_PROTOCOL_1 * options.protocol
        )

    async def _check_later(
        self, session: Session, options: ConnectOptions, check: Callable[[], bool]
    ) -> None:
        """Compute an answer that takes long in a thread, and give it if the client is still there."""
        is_allowed = await asyncio.to_thread(check)
        if session.client_id not in self._sessions:
            return
        try:
            self.plane.allow(session.handle, self._decide(session, options, is_allowed))
        except (AuthorizationViolation, BadClientProtocol, NoRespondersRequiresHeaders) as error:
            self.plane.refuse(session.handle, error)
        self.plane.run()

    def connect_info(self, client_id: int) -> bytes:
        """Return the INFO that follows the first PONG."""
        return self._info.connected(client_id, self._sessions[client_id].ip, DEFAULT_ACCOUNT)

    def client_info(self, text: bytes) -> None:
        """Check that a client's INFO is one; nothing in it matters to a server.

        Raises:
            BadConnect: it is no JSON object.
        """
        parse_object(text)

    def client_error(self, client_id: int, text: bytes) -> None:
        """Log what a client complains about; its connection is closed."""
        self._log.error(f"{self._sessions[client_id]} - Client error: {text.decode('utf-8', 'replace')}")

    def trace(self, client_id: int, line: bytes) -> None:
        """Log an operation, as nats-server's -V does."""
        text = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
        if text[:7].upper() == "CONNECT":
            text = "CONNECT {…}"  # it may hold a password
        self._log.trace(f"{self._sessions[client_id]} - <<- [{text}]")

    def report(self, client_id: int, error: BaseException) -> None:
        """Log an error of ours at the boundary of a connection."""
        lines: list[Any] = traceback.format_exception(error)
        self._log.error(f"cid:{client_id} - internal error: {''.join(lines)}")
