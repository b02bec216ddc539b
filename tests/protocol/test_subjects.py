"""Which subjects match, which are refused, and the traps between."""

import pytest


def deliveries(client, pattern, subject):
    """Whether a message on subject reaches a subscription to pattern on the same connection."""
    client.send(b"SUB " + pattern + b" 1\r\nPUB " + subject + b" 0\r\n\r\nUNSUB 1\r\nPING\r\n")
    answer = client.expect(rb".*PONG\r\n").group()
    if answer == b"PONG\r\n":
        return False
    assert answer == b"MSG " + subject + b" 1 0\r\n\r\nPONG\r\n"
    return True


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [
        (b"a", b"a"),
        (b"*", b"a"),
        (b">", b"a"),
        (b">", b"a.b.c"),
        (b"a.*", b"a.b"),
        (b"*.b", b"a.b"),
        (b"*.*", b"a.b"),
        (b"a.>", b"a.b"),
        (b"a.>", b"a.b.c.d"),
        (b"a.*.c", b"a.b.c"),
        (b"*.*.>", b"a.b.c"),
        (b"a.*.>", b"a.b.c.d"),
        # Inside a token * and > are letters.
        (b"foo*", b"foo*"),
        (b"foo>bar", b"foo>bar"),
        (b"*bar", b"*bar"),
        (b"a.*b", b"a.*b"),
        (b"a.>b.c", b"a.>b.c"),
        (b"a.**", b"a.**"),
        # A wildcard that is published is a token like any other.
        (b"foo.*", b"foo.*"),
        (b"foo.>", b"foo.*"),
        (b">", b"foo.*"),
        (b"foo.>", b"foo.>"),
        (b"foo.*", b"foo.>"),
        (b"*", b"*"),
        (b"*", b">"),
        # Any byte but the separators may be part of a token.
        ("größe.日本".encode(), "größe.日本".encode()),
        (b"x\x01\x7f\xff", b"x\x01\x7f\xff"),
        (b"*.y", b"\xff\xfe.y"),
        (b"quote'\"{}", b"quote'\"{}"),
        (b"$SYS.mine", b"$SYS.mine"),
        (b"_INBOX.>", b"_INBOX.abc.1"),
        (b"a" * 1500, b"a" * 1500),
        (b".".join([b"t"] * 200), b".".join([b"t"] * 200)),
        (b"*." * 40 + b">", b".".join([b"t"] * 64)),
    ],
)
def test_matching_subject_is_delivered(client, pattern, subject):
    assert deliveries(client, pattern, subject)


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [
        (b"a", b"A"),
        (b"a", b"a.b"),
        (b"a.b", b"a"),
        (b"a.*", b"a"),
        (b"a.*", b"a.b.c"),
        (b"a.>", b"a"),
        (b"*", b"a.b"),
        (b"*.*", b"a"),
        (b"*.*.>", b"a.b"),
        (b"foo*", b"foobar"),
        (b"foo*", b"foo"),
        (b"foo>bar", b"foo.bar"),
        (b"*bar", b"foobar"),
        (b"foo.bar", b"foo.*"),
        (b"foo.bar", b"foo.>"),
        (b"foo.bar.baz", b"foo.>"),
        (b"*", b"foo.*"),
        # A published subject with an empty token matches nothing at all.
        (b">", b".foo"),
        (b">", b"foo."),
        (b">", b"foo..bar"),
        (b">", b"."),
        (b"foo.>", b"foo."),
        (b"foo.*", b"foo."),
        (b"*.*", b"."),
    ],
)
def test_other_subject_is_not_delivered(client, pattern, subject):
    assert not deliveries(client, pattern, subject)


@pytest.mark.parametrize(
    "subject", [b".", b".a", b"a.", b"a..b", b">.a", b"a.>.b", b"..", b">.>", b"*.>.*", b"a.b..", b".>"]
)
def test_invalid_subscription_subject_is_refused_and_the_connection_goes_on(client, subject):
    client.send(b"SUB " + subject + b" 1\r\n")
    client.expect_error(b"Invalid Subject", closes=False)


def test_invalid_subject_in_verbose_mode_gets_no_ok(server, dial):
    verbose = dial(server, verbose=True)
    verbose.send(b"SUB a..b 1\r\n")
    verbose.expect_error(b"Invalid Subject", closes=False)


def test_sid_of_a_refused_subscription_is_free(client):
    client.send(b"SUB refused..sid 1\r\nSUB refused.sid 1\r\nPUB refused.sid 0\r\n\r\n")
    client.expect(rb"-ERR 'Invalid Subject'\r\nMSG refused\.sid 1 0\r\n\r\n")


@pytest.mark.parametrize("subject", [b"pedantic.*", b"pedantic.>", b"pedantic..x", b".", b"*", b">"])
def test_pedantic_complains_of_a_published_wildcard_or_empty_token(server, dial, subject):
    pedantic = dial(server, pedantic=True)
    pedantic.send(b"PUB " + subject + b" 0\r\n\r\n")
    pedantic.expect_error(b"Invalid Publish Subject", closes=False)


def test_pedantic_delivers_the_message_that_it_complains_of(server, client, dial):
    pedantic = dial(server, pedantic=True)
    client.send(b"SUB complain.> 1\r\n")
    client.expect_nothing()
    pedantic.send(b"PUB complain.* 2\r\nhi\r\n")
    pedantic.expect(rb"-ERR 'Invalid Publish Subject'\r\n")
    client.expect(rb"MSG complain\.\* 1 2\r\nhi\r\n")


@pytest.mark.parametrize("subject", [b"pedantic.fine", b"pedantic*", b"a>b"])
def test_pedantic_accepts_literal_subjects(server, dial, subject):
    pedantic = dial(server, pedantic=True)
    pedantic.send(b"PUB " + subject + b" 0\r\n\r\n")
    pedantic.expect_nothing()


def test_pedantic_checks_the_subject_of_hpub_too(server, dial):
    pedantic = dial(server, pedantic=True, headers=True)
    pedantic.send(b"HPUB pedantic.* 12 12\r\nNATS/1.0\r\n\r\n\r\n")
    pedantic.expect_error(b"Invalid Publish Subject", closes=False)


@pytest.mark.parametrize("reply", [b"*", b">", b"a..b", b".", b"a.*", b"\xff"])
def test_reply_subject_is_not_checked(server, dial, reply):
    pedantic = dial(server, pedantic=True)
    pedantic.send(b"SUB reply.any 1\r\nPUB reply.any " + reply + b" 0\r\n\r\nPING\r\n")
    answer = pedantic.expect(rb".*PONG\r\n").group()
    assert answer == b"MSG reply.any 1 " + reply + b" 0\r\n\r\nPONG\r\n"
