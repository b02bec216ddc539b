"""The server's own PINGs and stale connections."""

from support.wait import wait_until


def test_server_pings_after_connect(start, dial_raw):
    client = dial_raw(start(ping_interval="100ms", ping_max=1000), answers_pings=False)
    client.send(b'CONNECT {"verbose":false}\r\n')
    for _ in range(3):
        client.expect(rb"PING\r\n")
        client.send(b"PONG\r\n")


def test_server_pings_soon_after_connect_whatever_the_interval(server, dial_raw):
    """It measures the round trip about two seconds after CONNECT."""
    client = dial_raw(server, answers_pings=False)
    client.send(b'CONNECT {"verbose":false}\r\n')
    client.expect(rb"PING\r\n")


def test_client_that_answers_no_ping_is_closed_as_stale(start, dial_raw):
    client = dial_raw(start(ping_interval="100ms", ping_max=2), answers_pings=False)
    client.send(b'CONNECT {"verbose":false}\r\n')
    client.expect(rb"(PING\r\n)+")
    rest = client.read_to_end()
    assert rest.replace(b"PING\r\n", b"") == b"-ERR 'Stale Connection'\r\n"


def test_client_that_answers_pings_stays(start, dial_raw):
    """It outlives one that does not."""
    server = start(ping_interval="100ms", ping_max=1)
    mute = dial_raw(server, answers_pings=False)
    mute.send(b'CONNECT {"verbose":false}\r\n')
    polite = dial_raw(server).handshake()

    def mute_is_closed():
        polite.expect_nothing()
        return mute.is_closed_by_peer()

    wait_until(mute_is_closed, "the mute client to be closed", 20)
    polite.expect_nothing()


def test_publishing_counts_as_a_sign_of_life(start, dial_raw):
    """A client that publishes all the time is not stale, though it answers no PING."""
    server = start(ping_interval="200ms", ping_max=1)
    mute = dial_raw(server, answers_pings=False)
    busy = dial_raw(server, answers_pings=False)
    for client in (mute, busy):
        client.send(b'CONNECT {"verbose":false}\r\n')

    def mute_is_closed():
        busy.send(b"PUB alive 0\r\n\r\n")
        return mute.is_closed_by_peer()

    wait_until(mute_is_closed, "the mute client to be closed", 20)
    busy.send(b"PING\r\n")
    busy.expect(rb"(PING\r\n)*PONG\r\n")
