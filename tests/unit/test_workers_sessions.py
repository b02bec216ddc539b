"""What a worker decides about its clients, and what it logs about them."""

import json
from dataclasses import replace
from pathlib import Path

import bcrypt
import pytest
from support.planes import worker_config
from support.wait import wait_until_async

from workers import dataplane
from workers.errors import (
    AuthorizationViolation,
    BadClientProtocol,
    BadConnect,
    CloseReason,
    MaximumConnectionsExceeded,
    NoRespondersRequiresHeaders,
    ProtocolError,
)
from workers.log import Log
from workers.sessions import Sessions

STATS = {"pending_bytes": 123}


class StubPlane:
    """Remembers what it is asked to do."""

    def __init__(self) -> None:
        self.opened: list[tuple[int, int, bool, bytes]] = []
        self.sent: list[tuple[int, bytes]] = []
        self.failed: list[tuple[int, bytes, int]] = []
        self.allowed: list[tuple[int, int]] = []
        self.refused: list[tuple[int, ProtocolError]] = []

    def open_client(self, descriptor: int, client_id: int, auth_required: bool, info: bytes) -> int:
        self.opened.append((descriptor, client_id, auth_required, info))
        return 1000 + client_id

    def send(self, handle: int, line: bytes) -> None:
        self.sent.append((handle, line))

    def fail(self, handle: int, text: bytes, reason: int) -> None:
        self.failed.append((handle, text, reason))

    def allow(self, handle: int, options: int) -> None:
        self.allowed.append((handle, options))

    def refuse(self, handle: int, error: ProtocolError) -> None:
        self.refused.append((handle, error))

    def run(self) -> None:
        """Nothing to run."""


class Office:
    """Sessions with a stub for a data plane and a log to read."""

    def __init__(self, log_path: Path, **changes: object) -> None:
        self.log_path = log_path
        self.sessions = Sessions(
            replace(worker_config(), **changes), Log(file=str(log_path), debug=True, trace=True, time=False)
        )
        self.plane = StubPlane()
        self.sessions.plane = self.plane  # type: ignore[assignment]

    def open(self, client_id: int = 7, *, over_limit: bool = False, ip: str = "127.0.0.1") -> None:
        self.sessions.open(50, client_id, ip, 4567, over_limit=over_limit)

    def connect(self, client_id: int = 7, **fields: object) -> int | None:
        return self.sessions.connect(client_id, json.dumps(fields).encode())

    @property
    def log(self) -> str:
        return self.log_path.read_text()


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "log")


def test_client_is_greeted_and_its_name_logged(office: Office) -> None:
    office.open()
    ((descriptor, client_id, auth_required, info),) = office.plane.opened
    assert (descriptor, client_id, auth_required) == (50, 7, False)
    assert info.startswith(b"INFO {")
    assert "[DBG] 127.0.0.1:4567 - cid:7 - Client connection created" in office.log
    assert len(office.sessions) == 1


def test_ipv6_address_is_written_in_brackets(office: Office) -> None:
    office.open(ip="::1")
    assert "[::1]:4567 - cid:7" in office.log


def test_client_over_the_limit_is_told_so(office: Office) -> None:
    office.open(over_limit=True)
    ((handle, error),) = office.plane.refused
    assert (handle, type(error)) == (1007, MaximumConnectionsExceeded)
    assert "maximum connections exceeded" in office.log


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, dataplane.OPTION_VERBOSE | dataplane.OPTION_PEDANTIC),
        ({"verbose": False, "pedantic": False}, 0),
        ({"verbose": False, "pedantic": False, "echo": False}, dataplane.OPTION_NO_ECHO),
        ({"verbose": False, "pedantic": False, "protocol": 1}, dataplane.OPTION_PROTOCOL_1),
        (
            {"verbose": False, "pedantic": False, "headers": True, "no_responders": True},
            dataplane.OPTION_HEADERS | dataplane.OPTION_NO_RESPONDERS,
        ),
    ],
)
def test_connect_is_answered_with_options(office: Office, fields: dict[str, object], options: int) -> None:
    office.open()
    assert office.connect(**fields) == options


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"protocol": 2}, BadClientProtocol),
        ({"protocol": -1}, BadClientProtocol),
        ({"no_responders": True}, NoRespondersRequiresHeaders),
        ({"account": "A"}, AuthorizationViolation),
        ({"new_account": True}, AuthorizationViolation),
        ({"verbose": "yes"}, BadConnect),
    ],
)
def test_connect_that_cannot_be_granted_is_refused(
    office: Office, fields: dict[str, object], error: type[ProtocolError]
) -> None:
    office.open()
    with pytest.raises(error):
        office.connect(**fields)


def test_second_connect_keeps_what_it_does_not_name(office: Office) -> None:
    office.open()
    office.connect(verbose=False, headers=True)
    assert office.connect(pedantic=False) == dataplane.OPTION_HEADERS


def test_wrong_password_is_refused_and_logged_without_it(tmp_path: Path) -> None:
    office = Office(tmp_path / "log", user="me", password="right-secret")
    office.open()
    assert office.plane.opened[0][2], "credentials are required"
    with pytest.raises(AuthorizationViolation):
        office.connect(user="me", **{"pass": "wrong-secret"})
    assert "authentication error - User 'me'" in office.log
    assert "secret" not in office.log
    assert office.connect(user="me", **{"pass": "right-secret"}) is not None


async def test_hashed_password_is_checked_without_keeping_others_waiting(tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    office = Office(tmp_path / "log", token=hashed)
    office.open(1)
    office.open(2)
    office.open(3)
    assert office.connect(1, auth_token="secret", verbose=False, pedantic=False) is None
    assert office.connect(2, auth_token="wrong") is None
    assert office.connect(3, auth_token="secret") is None
    office.sessions.closed(3, CloseReason.CLIENT_CLOSED, STATS)
    await wait_until_async(lambda: office.plane.allowed and office.plane.refused, "both answers")
    assert office.plane.allowed == [(1001, 0)]
    ((handle, error),) = office.plane.refused
    assert (handle, type(error)) == (1002, AuthorizationViolation)
    await wait_until_async(lambda: not office.sessions._checks, "the answer that nobody waits for")
    assert len(office.plane.allowed) == 1


def test_second_info_is_of_the_default_account(office: Office) -> None:
    office.open()
    assert b'"remote_account":"$G"' in office.sessions.connect_info(7)


def test_end_of_a_slow_consumer_is_a_warning(office: Office) -> None:
    office.open()
    office.connect(name="reader", lang="python3", version="2.0")
    office.sessions.closed(7, CloseReason.SLOW_CONSUMER_PENDING_BYTES, STATS)
    name = '127.0.0.1:4567 - cid:7 - "v2.0:python3:reader"'
    assert (
        f"[WRN] {name} - Slow Consumer Detected: Slow Consumer (Pending Bytes), 123 bytes pending"
        in office.log
    )
    assert f"[DBG] {name} - Client connection closed: Slow Consumer (Pending Bytes)" in office.log
    assert len(office.sessions) == 0


def test_ordinary_end_is_no_warning(office: Office) -> None:
    office.open()
    office.sessions.closed(7, CloseReason.CLIENT_CLOSED, STATS)
    assert "[WRN]" not in office.log


def test_lame_duck_is_told_to_who_understands_it(office: Office) -> None:
    office.open(1)
    office.open(2)
    office.connect(2, protocol=1)
    office.sessions.announce_lame_duck()
    ((handle, line),) = office.plane.sent
    assert handle == 1002
    assert b'"ldm":true' in line


def test_sessions_end_oldest_first_or_all(office: Office) -> None:
    office.open(1)
    office.open(2)
    office.sessions.end_one()
    assert office.plane.failed == [(1001, b"", CloseReason.SERVER_SHUTDOWN)]
    office.sessions.end_all()
    assert [handle for handle, _, _ in office.plane.failed] == [1001, 1001, 1002]


def test_trace_hides_credentials(office: Office) -> None:
    office.open()
    office.sessions.trace(7, b'connect {"pass":"secret"}\r\n')
    office.sessions.trace(7, b"PUB foo 3\r\n")
    assert "<<- [CONNECT {…}]" in office.log
    assert "<<- [PUB foo 3]" in office.log
    assert "secret" not in office.log


def test_complaints_and_our_own_errors_are_logged(office: Office) -> None:
    office.open()
    office.sessions.client_error(7, b"'no\xff more'")
    office.sessions.report(7, RuntimeError("ours"))
    assert "[ERR] 127.0.0.1:4567 - cid:7 - Client error: 'no\ufffd more'" in office.log
    assert "internal error" in office.log
    assert "RuntimeError: ours" in office.log


def test_info_of_a_client_must_be_json(office: Office) -> None:
    office.sessions.client_info(b"{}")
    with pytest.raises(BadConnect):
        office.sessions.client_info(b"x")
