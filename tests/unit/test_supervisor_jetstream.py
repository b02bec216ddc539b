"""The store directory is made, locked and measured before a worker starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor import jetstream
from supervisor.config import ServerConfig, from_flags
from supervisor.errors import StartError
from supervisor.flags import FlagError, parse
from workers.log import Log

HOLD_LOCK = """
import sys
from supervisor.config import from_flags
from supervisor.flags import parse
from supervisor.jetstream import prepare
from workers.log import Log
prepare(from_flags(parse(["-js", "-sd", sys.argv[1]])), Log(file="", debug=False, trace=False, time=True))
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def log() -> Log:
    return Log(file="", debug=False, trace=False, time=False)


def config(directory: Path | str, *words: str) -> ServerConfig:
    return from_flags(parse(["-js", "-sd", str(directory), *words]))


def test_directory_is_made_and_measured(tmp_path: Path, log: Log) -> None:
    prepared = jetstream.prepare(config(tmp_path / "a" / "b"), log)
    assert prepared.store_dir == str(tmp_path / "a" / "b" / "jetstream")
    assert (tmp_path / "a" / "b" / "jetstream").is_dir()
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert prepared.js_max_memory == total // 4 * 3
    assert 0 < prepared.js_max_file < os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize


def test_workers_are_told_all_of_it(tmp_path: Path, log: Log) -> None:
    prepared = jetstream.prepare(config(tmp_path, "--js_sync_interval", "1s", "--js_domain", "hub"), log)
    told = prepared.for_worker(0, server_id="NABC", port=1, ring_epochs=[])
    assert (told.jetstream, told.store_dir) == (True, str(tmp_path / "jetstream"))
    assert (told.sync_interval_ns, told.js_domain, told.js_strict) == (1_000_000_000, "hub", True)
    assert (told.js_max_memory, told.js_max_file) == (prepared.js_max_memory, prepared.js_max_file)


@pytest.mark.parametrize("name", ["jetstream", "jetstream/below"])
def test_file_in_its_place_is_refused(tmp_path: Path, log: Log, name: str) -> None:
    (tmp_path / "jetstream").write_text("")
    directory = (tmp_path / name).parent
    with pytest.raises(StartError, match=r"Can't start JetStream: storage directory is not a directory$"):
        jetstream.prepare(config(directory), log)


def test_directory_that_cannot_be_made_is_refused(log: Log) -> None:
    text = (
        "Can't start JetStream: could not create storage directory - mkdir /proc/nope:"
        " no such file or directory"
    )
    with pytest.raises(StartError) as caught:
        jetstream.prepare(config("/proc/nope"), log)
    assert str(caught.value) == text


def test_second_broker_is_refused_until_the_first_is_gone(tmp_path: Path, log: Log) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"
        with pytest.raises(StartError, match="is in use by another midge"):
            jetstream.prepare(config(tmp_path), log)
        first.kill()
    jetstream.prepare(config(tmp_path), log)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KB"), (18957376512, "17.66 GB"), (3 << 40, "3.00 TB")],
)
def test_sizes_are_logged_as_nats_server_does(size: int, text: str) -> None:
    assert jetstream.friendly_bytes(size) == text


def test_domain_is_one_token() -> None:
    with pytest.raises(FlagError, match=r"invalid domain name 'a\.b' for flag --js_domain"):
        config("/nowhere", "--js_domain", "a.b")
