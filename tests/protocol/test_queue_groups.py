"""Queue groups: one member per message, whatever the patterns, evenly."""

from support.wait import wait_until

MESSAGE_COUNT = 4000


def collect(members, total, verb=b"MSG "):
    """Wait until the members together got total messages, and return how many each got."""
    counts = [0] * len(members)

    def take():
        for index, member in enumerate(members):
            member.send(b"PING\r\n")
            counts[index] += member.expect(rb".*?PONG\r\n").group().count(verb)
        return sum(counts) >= total

    wait_until(take, f"{total} messages", 20)
    take()
    assert sum(counts) == total
    return counts


def subscribe(clients, line):
    for client in clients:
        client.send(line)
        client.expect_nothing()


def test_one_member_gets_each_message(server, client, dial):
    members = [dial(server) for _ in range(4)]
    subscribe(members, b"SUB queue.one group 1\r\n")
    client.send(b"PUB queue.one 0\r\n\r\n" * 100)
    collect(members, 100)


def test_members_are_chosen_evenly(server, client, dial):
    """4000 messages over 4 members: 1000 each, standard deviation 27; the bound is more than 7 of them."""
    members = [dial(server) for _ in range(4)]
    subscribe(members, b"SUB queue.even group 1\r\n")
    client.send(b"PUB queue.even 0\r\n\r\n" * MESSAGE_COUNT)
    counts = collect(members, MESSAGE_COUNT)
    assert all(800 < count < 1200 for count in counts), counts


def test_members_on_one_connection_are_chosen_evenly(client):
    client.send(
        b"SUB queue.own group a\r\nSUB queue.own group b\r\n"
        b"SUB queue.own group c\r\nSUB queue.own group d\r\n"
    )
    client.send(b"PUB queue.own 0\r\n\r\n" * MESSAGE_COUNT + b"PING\r\n")
    answer = client.expect(rb".*PONG\r\n").group()
    counts = [answer.count(b"queue.own %b 0" % sid) for sid in (b"a", b"b", b"c", b"d")]
    assert sum(counts) == MESSAGE_COUNT
    assert all(800 < count < 1200 for count in counts), counts


def test_patterns_with_one_queue_name_form_one_group(server, client, dial):
    members = [dial(server) for _ in range(3)]
    for member, pattern in zip(members, (b"queue.mixed.a", b"queue.mixed.*", b"queue.>"), strict=True):
        subscribe([member], b"SUB " + pattern + b" mixed 1\r\n")
    client.send(b"PUB queue.mixed.a 0\r\n\r\n" * 300)
    counts = collect(members, 300)
    assert all(counts), counts


def test_every_group_gets_each_message_once(server, client, dial):
    members = [dial(server) for _ in range(4)]
    subscribe(members[:2], b"SUB queue.two first 1\r\n")
    subscribe(members[2:], b"SUB queue.two second 1\r\n")
    client.send(b"PUB queue.two 0\r\n\r\n" * 100)
    counts = collect(members, 200)
    assert counts[0] + counts[1] == 100
    assert counts[2] + counts[3] == 100


def test_plain_subscriptions_get_every_message_beside_the_group(server, client, dial):
    members = [dial(server) for _ in range(2)]
    listener = dial(server)
    subscribe(members, b"SUB queue.plain group 1\r\n")
    subscribe([listener], b"SUB queue.plain 1\r\n")
    client.send(b"PUB queue.plain 0\r\n\r\n" * 50)
    assert collect([*members, listener], 100)[2] == 50


def test_group_goes_on_when_a_member_unsubscribes(server, client, dial):
    members = [dial(server) for _ in range(2)]
    subscribe(members, b"SUB queue.leave group 1\r\n")
    members[0].send(b"UNSUB 1\r\n")
    members[0].expect_nothing()
    client.send(b"PUB queue.leave 0\r\n\r\n" * 50)
    assert collect(members, 50) == [0, 50]


def test_queue_name_is_any_token_and_case_sensitive(server, client, dial):
    members = [dial(server) for _ in range(2)]
    subscribe(members[:1], b"SUB queue.case Group.* 1\r\n")
    subscribe(members[1:], b"SUB queue.case group.* 1\r\n")
    client.send(b"PUB queue.case 0\r\n\r\n" * 20)
    assert collect(members, 40) == [20, 20]


def test_own_member_is_passed_over_without_echo(server, dial):
    """With echo off the group's other members get what this connection publishes."""
    silent, other = dial(server, echo=False), dial(server)
    subscribe([silent, other], b"SUB queue.echo group 1\r\n")
    silent.send(b"PUB queue.echo 0\r\n\r\n" * 50)
    assert collect([silent, other], 50) == [0, 50]
