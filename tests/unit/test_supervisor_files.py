"""PID and ports files have nats-server's content and are never seen half written."""

import json
from pathlib import Path

import pytest

from supervisor import files


def test_pid_file_holds_digits_only(tmp_path: Path) -> None:
    path = tmp_path / "midge.pid"
    path.write_text("123456789")
    files.write_pid_file(str(path), 4711)
    assert path.read_bytes() == b"4711"
    assert list(tmp_path.iterdir()) == [path]


def test_ports_file_holds_urls(tmp_path: Path) -> None:
    path = files.ports_file_path(str(tmp_path), 4711)
    files.write_ports_file(path, ["127.0.0.1", "::1"], 4222)
    assert path == str(tmp_path / "nats-server_4711.ports")
    assert Path(path).read_text() == '{"nats":["nats://127.0.0.1:4222","nats://[::1]:4222"]}'


def test_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write_pid_file(str(tmp_path / "missing" / "pid"), 1)


def test_failed_replacement_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "pid").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_pid_file(str(tmp_path / "pid"), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["pid"]


def test_all_addresses_are_reachable_of_a_listener_on_all() -> None:
    addresses = files.reachable_addresses("0.0.0.0", "::")
    assert "127.0.0.1" in addresses
    assert len(addresses) == len(set(addresses))
    assert not any("%" in address for address in addresses)
    assert json.dumps(addresses)


def test_one_address_is_reachable_of_a_listener_on_one() -> None:
    assert files.reachable_addresses("localhost", "127.0.0.1") == ["127.0.0.1"]
