"""Tokens, users and passwords given to the server, and how a client without them is sent away."""

import bcrypt
import pytest

REFUSED = b"Authorization Violation"


def hashed(secret):
    # Four rounds, the fewest bcrypt takes. nats-server knows the prefix 2a, which means the same as 2b.
    return bcrypt.hashpw(secret, bcrypt.gensalt(4)).decode().replace("$2b$", "$2a$", 1)


@pytest.fixture
def token_server(start):
    return start(token="s3cr3t")


@pytest.fixture
def user_server(start):
    return start(user="derek", password="t0ps3cret")


def test_info_says_that_credentials_are_required(token_server, dial_raw):
    assert dial_raw(token_server).info["auth_required"] is True


def test_right_token_is_let_in(token_server, dial):
    dial(token_server, auth_token="s3cr3t").expect_nothing()


@pytest.mark.parametrize(
    "fields",
    [{}, {"auth_token": "wrong"}, {"auth_token": ""}, {"user": "s3cr3t"}, {"user": "x", "pass": "s3cr3t"}],
)
def test_wrong_or_missing_token_is_refused(token_server, dial_raw, fields):
    connection = dial_raw(token_server)
    with pytest.raises(AssertionError, match="Authorization Violation"):
        connection.handshake(**fields)
    connection.expect_error(REFUSED, closes=True)


def test_right_user_and_password_are_let_in(user_server, dial):
    dial(user_server, user="derek", **{"pass": "t0ps3cret"}).expect_nothing()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"user": "derek"},
        {"user": "derek", "pass": "wrong"},
        {"user": "derek", "pass": ""},
        {"user": "nobody", "pass": "t0ps3cret"},
        {"pass": "t0ps3cret"},
        {"auth_token": "t0ps3cret"},
    ],
)
def test_wrong_user_or_password_is_refused(user_server, dial_raw, fields):
    connection = dial_raw(user_server)
    with pytest.raises(AssertionError, match="Authorization Violation"):
        connection.handshake(**fields)
    connection.expect_error(REFUSED, closes=True)


def test_bcrypt_token(start, dial, dial_raw):
    server = start(token=hashed(b"s3cr3t"))
    dial(server, auth_token="s3cr3t").expect_nothing()
    connection = dial_raw(server)
    connection.send(b'CONNECT {"auth_token":"S3cr3t"}\r\n')
    connection.expect_error(REFUSED, closes=True)


def test_bcrypt_password(start, dial, dial_raw):
    password = hashed(b"t0ps3cret")
    server = start(user="derek", password=password)
    dial(server, user="derek", **{"pass": "t0ps3cret"}).expect_nothing()
    connection = dial_raw(server)
    connection.send(b'CONNECT {"user":"derek","pass":"' + password.encode() + b'"}\r\n')
    connection.expect_error(REFUSED, closes=True)


@pytest.mark.parametrize(
    "first",
    [
        b"PING\r\n",
        b"SUB a 1\r\n",
        b"PUB a 0\r\n\r\n",
        b"PONG\r\n",
        b"UNSUB 1\r\n",
        b"INFO {}\r\n",
        b"+OK\r\n",
    ],
)
def test_any_verb_before_connect_is_refused(token_server, dial_raw, first):
    connection = dial_raw(token_server)
    connection.send(first)
    connection.expect_error(REFUSED, closes=True)


def test_garbage_before_connect_is_refused(token_server, dial_raw):
    connection = dial_raw(token_server)
    connection.send(b"BOGUS\r\n")
    connection.expect(rb"-ERR '[^']*'\r\n")
    connection.expect_closed()


def test_second_connect_is_checked_again(token_server, dial):
    connection = dial(token_server, auth_token="s3cr3t")
    connection.send(b'CONNECT {"verbose":false,"auth_token":"wrong"}\r\n')
    connection.expect_error(REFUSED, closes=True)


def test_nothing_is_processed_after_a_refusal(token_server, dial, dial_raw):
    listener = dial(token_server, auth_token="s3cr3t")
    listener.send(b"SUB intruder 1\r\n")
    listener.expect_nothing()
    connection = dial_raw(token_server)
    connection.send(b'CONNECT {"verbose":false}\r\nPUB intruder 2\r\nhi\r\n')
    connection.expect_error(REFUSED, closes=True)
    listener.expect_nothing()


def test_verbose_client_gets_ok_for_right_credentials(token_server, dial_raw):
    connection = dial_raw(token_server)
    connection.send(b'CONNECT {"auth_token":"s3cr3t"}\r\n')
    connection.expect(rb"\+OK\r\n")


def test_credentials_are_ignored_when_none_are_required(server, dial):
    dial(server, user="anybody", **{"pass": "anything"}, auth_token="x").expect_nothing()


def test_silent_client_is_sent_away_after_the_timeout(start, dial_raw):
    connection = dial_raw(start(token="s3cr3t", auth_timeout="200ms"))
    connection.expect_error(b"Authentication Timeout", closes=True)


def test_half_a_connect_does_not_stop_the_timeout(start, dial_raw):
    connection = dial_raw(start(token="s3cr3t", auth_timeout="200ms"))
    connection.send(b'CONNECT {"auth_token":"s3')
    connection.expect_error(b"Authentication Timeout", closes=True)


def test_timeout_ends_with_connect(start, dial, dial_raw):
    """A second client's time-out shows that the first one's time has passed too."""
    server = start(token="s3cr3t", auth_timeout="200ms")
    known = dial(server, auth_token="s3cr3t")
    dial_raw(server).expect_error(b"Authentication Timeout", closes=True)
    known.expect_nothing()


def test_no_timeout_without_required_credentials(start, dial_raw):
    """The server's PING, which comes later than the time-out would, shows that its time has passed."""
    server = start(auth_timeout="100ms", ping_interval="500ms", ping_max=1000)
    silent = dial_raw(server, answers_pings=False)
    silent.expect(rb"PING\r\n")
    silent.expect_nothing()
