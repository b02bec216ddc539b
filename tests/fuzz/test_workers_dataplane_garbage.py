"""Clients that send garbage are answered or closed; workers and their other clients never notice."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from support.planes import Client, Mesh, mesh

LINES = [
    b"PING\r\n",
    b"PONG\r\n",
    b"+OK\r\n",
    b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n',
    b"CONNECT {}\r\n",
    b"SUB foo 1\r\n",
    b"SUB foo.* q 2\r\n",
    b"SUB > 3\r\n",
    b"SUB inbox 4\r\n",
    b"SUB bad..subject 5\r\n",
    b"UNSUB 1\r\n",
    b"UNSUB 2 1\r\n",
    b"UNSUB 3 3\r\n",
    b"PUB foo 2\r\nhi\r\n",
    b"PUB foo.bar inbox 2\r\nhi\r\n",
    b"PUB  foo\t 2 \r\nhi\r\n",
    b"PUB nobody inbox 0\r\n\r\n",
    b"HPUB foo 4 6\r\nabcdhi\r\n",
    b"PUB foo 20000\r\n" + b"x" * 20000 + b"\r\n",
    b"INFO {}\r\n",
]
BROKEN = [
    b"\r\n",
    b"PUB foo\r\n",
    b"PUB foo 99999999\r\n",
    b"SUB\r\n",
    b"-ERR 'x'\r\n",
    b"\x00\xff" * 20,
    b"P",
]


def garbage(chance: Random) -> bytes:
    """Return lines of which the last may be broken or damaged."""
    data = b"".join(chance.choices(LINES, k=chance.randrange(1, 12)))
    how = chance.random()
    if how < 0.2:
        return data + chance.choice(BROKEN)
    if how < 0.4:
        at = chance.randrange(len(data))
        return data[:at] + data[at + 1 :]
    return data


def misbehave(planes: Mesh, chance: Random, clients: list[Client]) -> None:
    """Let one client send something in pieces, or hang up, and some worker run."""
    client = chance.choice(clients)
    if client.is_closed or chance.random() < 0.05:
        client.close()
        clients.remove(client)
        planes.clients.remove(client)
        clients.append(planes.connect(chance.randrange(len(planes.hosts)), handshake=False))
        return
    data = garbage(chance)
    cut = chance.randrange(len(data) + 1)
    client.send(data[:cut])
    chance.choice(planes.hosts).step()
    client.send(data[cut:])
    if chance.random() < 0.5:
        client.receive(chance.choice((10, 1 << 16)))


@given(seed=st.integers(0, 1 << 64), rings=st.sampled_from([256, 4096, 1 << 20]))
@settings(max_examples=60, deadline=None)
def test_garbage_hurts_only_who_sends_it(seed: int, rings: int) -> None:
    chance = Random(seed)
    with mesh(2, data_ring_bytes=rings, control_ring_bytes=min(rings, 1 << 18)) as planes:
        witness, publisher = planes.connect(0), planes.connect(1)
        witness.send(b"SUB witness 1\r\n")
        planes.settle()
        clients = [planes.connect(worker % 2, handshake=False) for worker in range(4)]
        for number in range(100):
            misbehave(planes, chance, clients)
            publisher.send(b"PUB witness 4\r\n%04d\r\n" % number)
        planes.settle()
        assert [int(message.payload) for message in witness.take_messages()] == list(range(100))
