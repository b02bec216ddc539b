"""Lame duck mode: clients are told, new ones are refused, and after the grace the server goes."""

import signal
import socket

import pytest
from support.broker import HOST, Broker
from support.wait import wait_until

# nats-server takes no duration below 30 s; with few clients it is over sooner.
TIMES = {"lame_duck_duration": "30s", "lame_duck_grace_period": "500ms"}


def refuses_connections(server):
    try:
        socket.create_connection((HOST, server.port), timeout=20).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.fixture
def duck(kind, tmp_path):
    """A broker that the test sends into lame duck mode, so that it ends by itself."""
    broker = Broker(kind, tmp_path / "duck", **TIMES)
    yield broker
    if broker.process.poll() is None:
        broker.kill()


def test_clients_of_protocol_1_are_told_and_new_ones_are_refused(duck, dial):
    new, old = dial(duck, protocol=1), dial(duck)
    duck.process.send_signal(signal.SIGUSR2)
    new.expect(rb"INFO [^\r\n]*\r\n")
    assert new.info["ldm"] is True
    assert "connect_urls" not in new.info
    wait_until(lambda: refuses_connections(duck), "the port to be closed", 20)
    assert old.read_to_end() == b""
    new.read_to_end()
    duck.expect_clean_exit()


def test_messages_flow_during_the_grace(duck, dial):
    new = dial(duck, protocol=1)
    new.send(b"SUB still.works 1\r\n")
    new.expect_nothing()
    duck.process.send_signal(signal.SIGUSR2)
    new.expect(rb"INFO [^\r\n]*\r\n")
    new.send(b"PUB still.works 2\r\nhi\r\n")
    new.expect(rb"MSG still\.works 1 2\r\nhi\r\n")
    new.read_to_end()
    duck.expect_clean_exit()


def test_server_without_clients_ends_at_once(duck):
    duck.process.send_signal(signal.SIGUSR2)
    duck.expect_clean_exit()


def test_stop_signal_ends_lame_duck_mode(duck, dial):
    client = dial(duck, protocol=1)
    duck.process.send_signal(signal.SIGUSR2)
    client.expect(rb"INFO [^\r\n]*\r\n")
    duck.stop()
