"""The grammar of every verb a client may send, and how each violation is answered."""

import pytest


@pytest.mark.parametrize(
    "ping", [b"PING\r\n", b"ping\r\n", b"PiNg\r\n", b"PING\n", b"PINGGG foo\r\n", b"PING  \t\r\n"]
)
def test_ping_is_answered_with_pong(client, ping):
    client.send(ping)
    client.expect(rb"PONG\r\n")
    client.expect_nothing()


@pytest.mark.parametrize("pong", [b"PONG\r\n", b"pong\n", b"PONGO bongo\r\n"])
def test_pong_is_accepted_silently(client, pong):
    client.send(pong)
    client.expect_nothing()


@pytest.mark.parametrize("ok", [b"+OK\r\n", b"+ok\n", b"+OKAY then\r\n"])
def test_ok_is_accepted_silently(client, ok):
    client.send(ok)
    client.expect_nothing()


def test_verbs_are_case_insensitive(client):
    client.send(b"sub case.verbs 1\r\npub case.verbs 2\r\nhi\r\nPuB case.verbs 2\r\nho\r\n")
    client.expect(rb"MSG case\.verbs 1 2\r\nhi\r\nMSG case\.verbs 1 2\r\nho\r\n")
    client.send(b"unSUB 1\r\npub case.verbs 2\r\nhi\r\n")
    client.expect_nothing()


def test_runs_of_blanks_and_tabs_separate(client):
    client.send(b"SUB \t runs.of  \t blanks  1 \t\r\nPUB\truns.of\t\treply  2  \r\nhi\r\n")
    client.expect(rb"MSG runs\.of 1 reply 2\r\nhi\r\n")


def test_lines_may_end_with_lf_alone(client):
    client.send(b"SUB lf.only 1\nPUB lf.only 2\nhi\r\n")
    client.expect(rb"MSG lf\.only 1 2\r\nhi\r\n")


def test_cr_inside_a_line_separates_in_sub(client):
    client.send(b"SUB cr.sub\rgroup 1\r\nPUB cr.sub 2\r\nhi\r\n")
    client.expect(rb"MSG cr\.sub 1 2\r\nhi\r\n")


def test_cr_inside_a_line_belongs_to_the_token_in_pub(client):
    client.send(b"SUB * 1\r\nPUB cr\rpub 2\r\nhi\r\n")
    client.expect(rb"MSG cr\rpub 1 2\r\nhi\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"\r\n",
        b"\n",
        b" PING\r\n",
        b"\tPING\r\n",
        b"BOGUS\r\n",
        b"P\r\n",
        b"PU foo 0\r\n",
        b"PUBX foo 0\r\n",
        b"SUBS foo 1\r\n",
        b"MSG foo 1 0\r\n\r\n",
        b"HMSG foo 1 12 12\r\nNATS/1.0\r\n\r\n\r\n",
        b"RS+ $G foo\r\n",
        b"RS- $G foo\r\n",
        b"LS+ foo\r\n",
        b"A+ $G\r\n",
        b"A- $G\r\n",
        b"RMSG $G foo 0\r\n\r\n",
        b"LMSG foo 0\r\n\r\n",
        b"{}\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00",
        b"\xff\xfe\r\n",
        b"PIN\r\n",
        b"PON \r\n",
        b"+KO\r\n",
        b"-EXX\r\n",
        b"H\r\n",
        b"HPUBfoo 0 0\r\n",
        b"PUBfoo 0\r\n",
    ],
)
def test_unknown_operation_is_refused(client, line):
    client.send(line)
    client.expect_error(b"Unknown Protocol Operation", closes=True)


@pytest.mark.parametrize("verb", [b"SUB", b"UNSUB", b"PUB", b"HPUB"])
def test_verb_without_argument_is_no_operation(client, verb):
    client.send(verb + b"\r\n")
    client.expect_error(b"Unknown Protocol Operation", closes=True)


@pytest.mark.parametrize(
    "line",
    [
        b"PUB foo\r\n",
        b"PUB foo a b 0\r\n\r\n",
        b"PUB  \r\n",
        b"SUB foo\r\n",
        b"SUB foo group 1 extra\r\n",
        b"SUB  \r\n",
        b"UNSUB 1 2 3\r\n",
        b"UNSUB  \r\n",
        b"HPUB foo 12\r\n",
        b"HPUB foo\r\n",
        b"HPUB foo a b 12 12\r\n",
        b"HPUB  \r\n",
    ],
)
def test_wrong_number_of_arguments_closes_without_a_word(client, line):
    client.send(line)
    client.expect_closed()


@pytest.mark.parametrize(
    "size",
    [
        b"-1",
        b"+1",
        b"abc",
        b"1a",
        b"0x1",
        b"1.0",
        b"1234567890",
        b"0000000001",
        b"99999999999999999999",
        b"\xd9\xa1",
    ],
)
def test_bad_size_of_pub_closes_without_a_word(client, size):
    client.send(b"PUB bad.size " + size + b"\r\n")
    client.expect_closed()


@pytest.mark.parametrize(
    "sizes",
    [b"12 -1", b"-1 12", b"abc 12", b"12 abc", b"13 12", b"1234567890 1234567890", b"+12 12", b"12 +12"],
)
def test_bad_sizes_of_hpub_close_without_a_word(client, sizes):
    client.send(b"HPUB bad.size " + sizes + b"\r\n")
    client.expect_closed()


@pytest.mark.parametrize("size", [b"2", b"02", b"0002", b"000000002"])
def test_size_is_echoed_as_it_was_written(client, size):
    client.send(b"SUB size.echo 1\r\nPUB size.echo " + size + b"\r\nhi\r\n")
    client.expect(rb"MSG size\.echo 1 " + size + rb"\r\nhi\r\n")


def test_empty_payload_is_delivered(client):
    client.send(b"SUB size.zero 1\r\nPUB size.zero 0\r\n\r\n")
    client.expect(rb"MSG size\.zero 1 0\r\n\r\n")


def test_payload_may_hold_protocol_lines(client):
    payload = b"PUB foo 0\r\n\r\nPING\r\n\x00\xff"
    client.send(b"SUB payload.any 1\r\nPUB payload.any %d\r\n%b\r\n" % (len(payload), payload))
    client.expect(rb"MSG payload\.any 1 21\r\nPUB foo 0\r\n\r\nPING\r\n\x00\xff\r\n")
    client.expect_nothing()


@pytest.mark.parametrize("ending", [b"x", b"\n", b"longer than announced\r\n", b" \r\n"])
def test_payload_longer_than_announced_is_refused(client, ending):
    client.send(b"PUB payload.long 2\r\nhi" + ending)
    client.expect_error(b"Unknown Protocol Operation", closes=True)


def test_payload_must_not_end_with_cr_and_something_else(client):
    client.send(b"PUB payload.cr 2\r\nhi\rx")
    client.expect_error(b"Unknown Protocol Operation", closes=True)


def test_message_before_an_error_in_the_same_write_is_delivered(server, client, dial):
    listener = dial(server)
    listener.send(b"SUB before.error 1\r\n")
    listener.expect_nothing()
    client.send(b"PUB before.error 2\r\nhi\r\nBOGUS\r\n")
    listener.expect(rb"MSG before\.error 1 2\r\nhi\r\n")
    client.expect_error(b"Unknown Protocol Operation", closes=True)


def test_nothing_after_an_error_is_processed(server, client, dial):
    listener = dial(server)
    listener.send(b"SUB after.error 1\r\n")
    listener.expect_nothing()
    client.send(b"BOGUS\r\nPUB after.error 2\r\nhi\r\n")
    client.expect_error(b"Unknown Protocol Operation", closes=True)
    listener.expect_nothing()


def test_input_in_single_bytes_is_parsed_the_same(client):
    for byte in b"SUB bytes.single group 9\r\nPUB bytes.single reply 5\r\nhello\r\nUNSUB 9\r\nPING\r\n":
        client.send(bytes([byte]))
    client.expect(rb"MSG bytes\.single 9 reply 5\r\nhello\r\nPONG\r\n")


def test_many_operations_in_one_write_are_all_processed_in_order(client):
    client.send(b"SUB many.ops 1\r\n" + b"".join(b"PUB many.ops 6\r\n%06d\r\n" % i for i in range(5000)))
    for i in range(5000):
        client.expect(rb"MSG many\.ops 1 6\r\n%06d\r\n" % i)


def test_half_an_operation_at_the_end_of_a_connection_is_dropped(server, client, dial_raw):
    """A payload that was cut off is never delivered."""
    client.send(b"SUB cut.off 1\r\n")
    client.expect_nothing()
    cut = dial_raw(server)
    cut.send(b'CONNECT {"verbose":false}\r\nPUB cut.off 10\r\nhalf')
    cut.send(b"")
    cut.socket.shutdown(1)
    cut.expect_closed()
    client.expect_nothing()
