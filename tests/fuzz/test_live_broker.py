"""Garbage and half-garbage sent to a live broker: it answers as nats-server does, and goes on."""

import random
import socket

import pytest
from support.broker import HOST, Broker
from support.fuzz_input import KNOWN_DIFFERENCES, InputGenerator, normalised_answers

INPUTS_PER_TEST = 50
ATTEMPTS = 5


@pytest.fixture(scope="session")
def oracle(tmp_path_factory):
    broker = Broker("nats-server", tmp_path_factory.mktemp("oracle"))
    yield broker
    broker.stop()


def answers_to(server, pieces):
    """Send the pieces on a connection of their own, end it, and return what came back."""
    received = bytearray()
    with socket.create_connection((HOST, server.port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The server closed first; what it said before is still to be read.
        try:
            while data := connection.recv(1 << 16):
                received += data
        except ConnectionResetError:
            pass  # It closed with input unread, which the kernel tells by a reset behind the last byte.
    return normalised_answers(bytes(received))


def pytest_generate_tests(metafunc):
    if "first_seed" in metafunc.fixturenames:
        count = metafunc.config.getoption("--fuzz-inputs")
        metafunc.parametrize("first_seed", range(0, count, INPUTS_PER_TEST))


def assert_same_answers(server, oracle, pieces, what):
    """Compare the answers of both servers.

    A server that closes with input unread makes the kernel reset the connection, and that may overtake its
    last words. So only a difference that stays through some attempts counts.
    """
    for _ in range(ATTEMPTS):
        ours, theirs = answers_to(server, pieces), answers_to(oracle, pieces)
        if ours == theirs:
            return
    assert ours == theirs, f"{what}, input {b''.join(pieces)!r}"


@pytest.mark.servers("midge-1", "midge-2")
def test_mutated_input_is_answered_as_nats_server_does(server, oracle, first_seed):
    for seed in range(first_seed, first_seed + INPUTS_PER_TEST):
        pieces = InputGenerator(seed).pieces()
        if not KNOWN_DIFFERENCES.search(b"".join(pieces)):
            assert_same_answers(server, oracle, pieces, f"seed {seed}")


@pytest.mark.servers("midge-1", "midge-2")
def test_random_bytes_are_answered_as_nats_server_does(server, oracle, first_seed):
    generator = random.Random(first_seed)
    for _ in range(INPUTS_PER_TEST):
        data = generator.randbytes(generator.choice((1, 3, 50, 5000)))
        assert_same_answers(server, oracle, [data], "random bytes")
