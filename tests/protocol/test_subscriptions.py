"""SUB and UNSUB: copies, sids, auto-unsubscribe, order."""

import pytest
from support.wait import wait_until


def test_every_overlapping_subscription_gets_its_copy(client):
    client.send(
        b"SUB overlap.a 1\r\nSUB overlap.* 2\r\nSUB overlap.> 3\r\nSUB overlap.a 4\r\n"
        b"PUB overlap.a 1\r\nx\r\n"
    )
    got = sorted(client.expect(rb"MSG overlap\.a (\d) 1\r\nx\r\n").group(1) for _ in range(4))
    assert got == [b"1", b"2", b"3", b"4"]
    client.expect_nothing()


def test_every_connection_gets_its_copy(server, client, dial):
    listeners = [dial(server) for _ in range(6)]
    for number, listener in enumerate(listeners):
        listener.send(b"SUB fan.out %d\r\n" % number)
        listener.expect_nothing()
    client.send(b"PUB fan.out 5\r\nhello\r\n")
    for number, listener in enumerate(listeners):
        listener.expect(rb"MSG fan\.out %d 5\r\nhello\r\n" % number)
        listener.expect_nothing()


@pytest.mark.parametrize("sid", [b"1", b"007", b"abc", b"a-b_c.d", b"\xc3\xa9", b"9" * 40, b"*", b"$"])
def test_sid_is_any_token(client, sid):
    client.send(b"SUB any.sid " + sid + b"\r\nPUB any.sid 0\r\n\r\nPING\r\n")
    assert client.expect(rb".*PONG\r\n").group() == b"MSG any.sid " + sid + b" 0\r\n\r\nPONG\r\n"
    client.send(b"UNSUB " + sid + b"\r\nPUB any.sid 0\r\n\r\n")
    client.expect_nothing()


def test_sids_are_compared_as_text(client):
    client.send(b"SUB text.sid 1\r\nSUB text.sid 01\r\nUNSUB 1\r\nPUB text.sid 0\r\n\r\n")
    client.expect(rb"MSG text\.sid 01 0\r\n\r\n")
    client.expect_nothing()


def test_second_sub_with_an_active_sid_is_ignored(client):
    client.send(
        b"SUB reuse.first 5\r\nSUB reuse.second 5\r\nPUB reuse.second 0\r\n\r\nPUB reuse.first 0\r\n\r\n"
    )
    client.expect(rb"MSG reuse\.first 5 0\r\n\r\n")
    client.expect_nothing()


def test_second_sub_with_an_active_sid_gets_ok_in_verbose_mode(server, dial):
    verbose = dial(server, verbose=True)
    verbose.send(b"SUB reuse.verbose 5\r\nSUB reuse.other 5\r\n")
    verbose.expect(rb"\+OK\r\n\+OK\r\n")


def test_sid_may_be_used_again_after_unsub(client):
    client.send(
        b"SUB again.first 5\r\nUNSUB 5\r\nSUB again.second 5\r\n"
        b"PUB again.first 0\r\n\r\nPUB again.second 0\r\n\r\n"
    )
    client.expect(rb"MSG again\.second 5 0\r\n\r\n")
    client.expect_nothing()


def test_sids_of_two_connections_are_independent(server, dial):
    first, second = dial(server), dial(server)
    first.send(b"SUB own.sids 1\r\n")
    second.send(b"SUB own.sids 1\r\n")
    first.expect_nothing()
    second.expect_nothing()
    first.send(b"UNSUB 1\r\nPUB own.sids 0\r\n\r\n")
    first.expect_nothing()
    second.expect(rb"MSG own\.sids 1 0\r\n\r\n")


def test_unsub_of_an_unknown_sid_is_accepted_silently(client):
    client.send(b"UNSUB 12345\r\nUNSUB 12345 3\r\n")
    client.expect_nothing()


def test_messages_sent_before_unsub_are_delivered(client):
    client.send(b"SUB before.unsub 1\r\nPUB before.unsub 0\r\n\r\nUNSUB 1\r\nPUB before.unsub 0\r\n\r\n")
    client.expect(rb"MSG before\.unsub 1 0\r\n\r\n")
    client.expect_nothing()


def test_unsub_with_max_counts_from_the_subscription(client):
    client.send(b"SUB max.total 1\r\nPUB max.total 1\r\na\r\nUNSUB 1 3\r\n")
    for _ in range(5):
        client.send(b"PUB max.total 1\r\nb\r\n")
    client.expect(rb"MSG max\.total 1 1\r\na\r\nMSG max\.total 1 1\r\nb\r\nMSG max\.total 1 1\r\nb\r\n")
    client.expect_nothing()


@pytest.mark.parametrize("maximum", [b"2", b"1", b"0", b"-1", b"abc", b"-5x", b"1.5"])
def test_unsub_with_a_max_not_above_what_was_delivered_or_no_number_removes_at_once(client, maximum):
    client.send(b"SUB max.reached 1\r\nPUB max.reached 0\r\n\r\nPUB max.reached 0\r\n\r\n")
    client.expect(rb"(MSG max\.reached 1 0\r\n\r\n){2}")
    client.send(b"UNSUB 1 " + maximum + b"\r\nPUB max.reached 0\r\n\r\n")
    client.expect_nothing()


def test_later_unsub_replaces_the_max(client):
    client.send(b"SUB max.replaced 1\r\nUNSUB 1 1\r\nUNSUB 1 2\r\n" + b"PUB max.replaced 0\r\n\r\n" * 4)
    client.expect(rb"(MSG max\.replaced 1 0\r\n\r\n){2}")
    client.expect_nothing()


def test_max_can_be_lowered(client):
    client.send(b"SUB max.lowered 1\r\nUNSUB 1 10\r\nUNSUB 1 1\r\n" + b"PUB max.lowered 0\r\n\r\n" * 4)
    client.expect(rb"MSG max\.lowered 1 0\r\n\r\n")
    client.expect_nothing()


def test_sid_is_free_after_the_last_message_of_max(client):
    client.send(b"SUB max.free 1\r\nUNSUB 1 1\r\nPUB max.free 0\r\n\r\n")
    client.expect(rb"MSG max\.free 1 0\r\n\r\n")
    client.send(b"SUB max.free.again 1\r\nPUB max.free.again 0\r\n\r\n")
    client.expect(rb"MSG max\.free\.again 1 0\r\n\r\n")


def test_max_counts_each_subscription_by_itself(client):
    client.send(b"SUB max.each 1\r\nSUB max.each 2\r\nUNSUB 1 1\r\n" + b"PUB max.each 0\r\n\r\n" * 3)
    got = [client.expect(rb"MSG max\.each (\d) 0\r\n\r\n").group(1) for _ in range(4)]
    assert sorted(got) == [b"1", b"2", b"2", b"2"]
    client.expect_nothing()


def test_max_of_a_queue_member_leaves_the_rest_to_the_others(server, dial):
    first, second, publisher = dial(server), dial(server), dial(server)
    first.send(b"SUB max.queue group 1\r\nUNSUB 1 5\r\n")
    second.send(b"SUB max.queue group 2\r\n")
    first.expect_nothing()
    second.expect_nothing()
    publisher.send(b"PUB max.queue 0\r\n\r\n" * 200)
    publisher.expect_nothing()
    for _ in range(195):
        second.expect(rb"MSG max\.queue 2 0\r\n\r\n")
    first.expect(rb"(MSG max\.queue 1 0\r\n\r\n){5}")
    first.expect_nothing()
    second.expect_nothing()


def test_messages_of_one_publisher_arrive_in_their_order(server, client, dial):
    listener = dial(server)
    listener.send(b"SUB order.> 1\r\n")
    listener.expect_nothing()
    for i in range(3000):
        client.send(b"PUB order.%d 6\r\n%06d\r\n" % (i % 7, i))
    for i in range(3000):
        listener.expect(rb"MSG order\.%d 1 6\r\n%06d\r\n" % (i % 7, i))


def test_pong_comes_after_the_messages_routed_before_it(client):
    client.send(
        b"SUB pong.after 1\r\n" + b"PUB pong.after 0\r\n\r\n" * 10 + b"PING\r\n" + b"PUB pong.after 0\r\n\r\n"
    )
    client.expect(rb"(MSG pong\.after 1 0\r\n\r\n){10}PONG\r\nMSG pong\.after 1 0\r\n\r\n")


def test_subscriptions_end_with_their_connection(server, client, dial):
    gone = dial(server)
    gone.send(b"SUB gone.with 1\r\n")
    gone.expect_nothing()
    gone.socket.shutdown(1)
    gone.expect_closed()
    client.send(b"SUB gone.reply 1\r\n")

    def no_responders():
        client.send(b"PUB gone.with gone.reply 0\r\n\r\nPING\r\n")
        return b"503" in client.expect(rb".*PONG\r\n").group()

    wait_until(no_responders, "the subscription to disappear", 20)
