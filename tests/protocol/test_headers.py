"""HPUB and HMSG, stripping for receivers without headers, and the 503 status."""

import re

import pytest
from support.wait import wait_until

BLOCK = b"NATS/1.0\r\nA: b\r\n\r\n"


def test_hpub_is_delivered_as_hmsg(client):
    client.send(b"SUB head.basic 1\r\nHPUB head.basic 18 23\r\n" + BLOCK + b"hello\r\n")
    client.expect(rb"HMSG head\.basic 1 18 23\r\n" + re.escape(BLOCK) + rb"hello\r\n")


def test_hpub_with_reply_is_delivered_with_it(client):
    client.send(b"SUB head.reply 1\r\nHPUB head.reply answer.to 18 18\r\n" + BLOCK + b"\r\n")
    client.expect(rb"HMSG head\.reply 1 answer\.to 18 18\r\n" + re.escape(BLOCK) + rb"\r\n")


def test_sizes_of_hpub_are_echoed_as_they_were_written(client):
    client.send(b"SUB head.sizes 1\r\nHPUB head.sizes 018 0023\r\n" + BLOCK + b"hello\r\n")
    client.expect(rb"HMSG head\.sizes 1 018 0023\r\n" + re.escape(BLOCK) + rb"hello\r\n")


@pytest.mark.parametrize(
    "block", [b"\x00\xff\r\n", b"abcd", b"NATS/1.0\r\nno colon\r\n\r\n", b"NATS/1.0 503\r\n\r\n"]
)
def test_header_bytes_are_not_checked(client, block):
    client.send(b"SUB head.raw 1\r\nHPUB head.raw %d %d\r\n%b\r\n" % (len(block), len(block), block))
    client.expect(rb"HMSG head\.raw 1 %d %d\r\n%b\r\n" % (len(block), len(block), re.escape(block)))


def test_empty_header_block_is_delivered(client):
    client.send(b"SUB head.empty 1\r\nHPUB head.empty 0 2\r\nhi\r\nPING\r\n")
    client.expect(rb"H?MSG head\.empty 1 (0 )?2\r\nhi\r\nPONG\r\n")


def test_receiver_without_headers_gets_the_payload_alone(server, client, dial):
    old = dial(server, headers=False)
    old.send(b"SUB head.strip 1\r\n")
    old.expect_nothing()
    client.send(b"HPUB head.strip 18 23\r\n" + BLOCK + b"hello\r\n")
    old.expect(rb"MSG head\.strip 1 5\r\nhello\r\n")
    client.send(b"HPUB head.strip answer 18 18\r\n" + BLOCK + b"\r\n")
    old.expect(rb"MSG head\.strip 1 answer 0\r\n\r\n")


def test_receivers_with_and_without_headers_each_get_their_form(server, client, dial):
    old = dial(server, headers=False)
    new = dial(server, headers=True)
    for listener in (old, new):
        listener.send(b"SUB head.both 1\r\n")
        listener.expect_nothing()
    client.send(b"HPUB head.both 18 20\r\n" + BLOCK + b"hi\r\nPUB head.both 2\r\nho\r\n")
    old.expect(rb"MSG head\.both 1 2\r\nhi\r\nMSG head\.both 1 2\r\nho\r\n")
    new.expect(rb"HMSG head\.both 1 18 20\r\n" + re.escape(BLOCK) + rb"hi\r\nMSG head\.both 1 2\r\nho\r\n")


def test_hpub_without_negotiated_headers_closes_without_a_word(server, dial):
    old = dial(server, headers=False)
    old.send(b"HPUB head.refused 18 18\r\n" + BLOCK + b"\r\n")
    old.expect_closed()


def test_hpub_before_connect_closes_without_a_word(plain):
    plain.send(b"HPUB head.refused 18 18\r\n" + BLOCK + b"\r\n")
    plain.expect_closed()


def test_payload_after_headers_must_end_with_crlf(client):
    client.send(b"HPUB head.long 18 18\r\n" + BLOCK + b"x\r\n")
    client.expect_error(b"Unknown Protocol Operation", closes=True)


@pytest.mark.parametrize("subject", [b"nobody", b"nobody.is.there", b"n" * 300])
def test_request_without_responders_is_answered_with_503(client, subject):
    client.send(b"SUB inbox.nobody 7\r\nPUB " + subject + b" inbox.nobody 5\r\nhello\r\n")
    block = b"NATS/1.0 503\r\nNats-Subject: " + subject + b"\r\n\r\n"
    assert len(block) == 32 + len(subject)
    client.expect(rb"HMSG inbox\.nobody 7 %d %d\r\n%b\r\n" % (len(block), len(block), re.escape(block)))
    client.expect_nothing()


def test_request_with_headers_and_no_responders_is_answered_with_503(client):
    client.send(b"SUB inbox.h.* 7\r\nHPUB nobody.h inbox.h.1 18 18\r\n" + BLOCK + b"\r\n")
    client.expect(rb"HMSG inbox\.h\.1 7 40 40\r\nNATS/1\.0 503\r\nNats-Subject: nobody\.h\r\n\r\n\r\n")


def test_wildcard_subscription_receives_the_503(client):
    client.send(b"SUB _INBOX.abc.* 7\r\nPUB nobody _INBOX.abc.42 0\r\n\r\n")
    client.expect(rb"HMSG _INBOX\.abc\.42 7 38 38\r\nNATS/1\.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n")


def test_503_comes_once_however_many_subscriptions_match_the_reply(client):
    client.send(b"SUB inbox.many 1\r\nSUB inbox.* 2\r\nPUB nobody inbox.many 0\r\n\r\n")
    client.expect(rb"HMSG inbox\.many [12] 38 38\r\nNATS/1\.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n")
    client.expect_nothing()


def test_no_503_without_a_subscription_to_the_reply(client):
    client.send(b"PUB nobody inbox.unsubscribed 0\r\n\r\n")
    client.expect_nothing()


def test_no_503_for_a_queue_subscription_to_the_reply(client):
    client.send(b"SUB inbox.queue group 1\r\nPUB nobody inbox.queue 0\r\n\r\n")
    client.expect_nothing()


def test_no_503_for_a_reply_subscription_of_another_connection(server, client, dial):
    other = dial(server, headers=True, no_responders=True)
    other.send(b"SUB inbox.other 1\r\n")
    other.expect_nothing()
    client.send(b"PUB nobody inbox.other 0\r\n\r\n")
    client.expect_nothing()
    other.expect_nothing()


def test_no_503_without_reply_subject(client):
    client.send(b"SUB inbox.none 1\r\nPUB nobody 0\r\n\r\n")
    client.expect_nothing()


def test_no_503_when_it_was_not_asked_for(server, dial):
    client = dial(server, headers=True)
    client.send(b"SUB inbox.unasked 1\r\nPUB nobody inbox.unasked 0\r\n\r\n")
    client.expect_nothing()


def test_no_503_when_a_plain_subscription_exists(server, client, dial):
    responder = dial(server)
    responder.send(b"SUB somebody.plain 1\r\n")
    responder.expect_nothing()
    client.send(b"SUB inbox.somebody 1\r\nPUB somebody.plain inbox.somebody 0\r\n\r\n")
    client.expect_nothing()
    responder.expect(rb"MSG somebody\.plain 1 inbox\.somebody 0\r\n\r\n")


def test_no_503_when_a_queue_member_exists(server, client, dial):
    responder = dial(server)
    responder.send(b"SUB somebody.queue group 1\r\n")
    responder.expect_nothing()
    client.send(b"SUB inbox.member 1\r\nPUB somebody.queue inbox.member 0\r\n\r\n")
    client.expect_nothing()
    responder.expect(rb"MSG somebody\.queue 1 inbox\.member 0\r\n\r\n")


def test_own_subscription_without_echo_is_no_responder(server, dial):
    client = dial(server, headers=True, no_responders=True, echo=False)
    client.send(b"SUB inbox.echo 1\r\nSUB self.only 2\r\nPUB self.only inbox.echo 0\r\n\r\n")
    client.expect(rb"HMSG inbox\.echo 1 41 41\r\nNATS/1\.0 503\r\nNats-Subject: self\.only\r\n\r\n\r\n")


def test_own_subscription_with_echo_is_a_responder(client):
    client.send(b"SUB inbox.self 1\r\nSUB self.too 2\r\nPUB self.too inbox.self 0\r\n\r\n")
    client.expect(rb"MSG self\.too 2 inbox\.self 0\r\n\r\n")
    client.expect_nothing()


def test_503_follows_the_departure_of_the_last_responder(server, client, dial):
    responder = dial(server)
    responder.send(b"SUB leaving 1\r\n")
    responder.expect_nothing()
    client.send(b"SUB inbox.leaving 1\r\n")
    responder.send(b"UNSUB 1\r\n")
    responder.expect_nothing()
    client.send(b"PUB leaving inbox.leaving 0\r\n\r\n")
    client.expect(rb"HMSG inbox\.leaving 1 39 39\r\nNATS/1\.0 503\r\nNats-Subject: leaving\r\n\r\n\r\n")


def test_503_follows_the_end_of_the_responders_connection(server, client, dial):
    responder = dial(server)
    responder.send(b"SUB dying 1\r\n")
    responder.expect_nothing()
    client.send(b"SUB inbox.dying 1\r\n")
    responder.close()

    def answered_with_503():
        client.send(b"PUB dying inbox.dying 0\r\n\r\nPING\r\n")
        return b"503" in client.expect(rb".*?PONG\r\n").group()

    wait_until(answered_with_503, "the responder to be forgotten", 20)


def test_verbose_request_without_responders_gets_ok_and_503(server, dial):
    client = dial(server, verbose=True, headers=True, no_responders=True)
    client.send(b"SUB inbox.v 1\r\n")
    client.expect(rb"\+OK\r\n")
    client.send(b"PUB nobody inbox.v 0\r\n\r\nPING\r\n")
    answer = client.expect(rb".*PONG\r\n").group()
    assert answer.count(b"+OK\r\n") == 1
    assert answer.count(b"HMSG inbox.v 1 38 38\r\n") == 1
