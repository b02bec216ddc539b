"""A host that is too small is refused at the start, not when it fails."""

import resource
from pathlib import Path

import pytest

from supervisor import host
from supervisor.errors import StartError


def write_cgroup(folder: Path, limit: str, used: str) -> str:
    (folder / "memory.max").write_text(limit + "\n")
    (folder / "memory.current").write_text(used + "\n")
    return str(folder)


@pytest.fixture
def meminfo(tmp_path: Path) -> str:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       8000 kB\nMemAvailable:   4000 kB\n")
    return str(path)


def test_available_memory_is_what_the_kernel_says(meminfo: str) -> None:
    assert host.available_memory_bytes(meminfo, "/nowhere") == 4000 * 1024


def test_control_group_may_allow_less(meminfo: str, tmp_path: Path) -> None:
    assert host.available_memory_bytes(meminfo, write_cgroup(tmp_path, "3000000", "1000000")) == 2000000


def test_control_group_without_limit_does_not_matter(meminfo: str, tmp_path: Path) -> None:
    assert host.available_memory_bytes(meminfo, write_cgroup(tmp_path, "max", "1")) == 4000 * 1024


def test_unknown_memory_is_not_too_little() -> None:
    assert host.available_memory_bytes("/nowhere", "/nowhere") is None


def test_too_little_memory_is_refused_with_numbers() -> None:
    needed = 10 * host.WORKER_BYTES + (12 << 20)
    host.check_memory(10, 12 << 20, needed)
    with pytest.raises(
        StartError, match=r"Host too small: 10 workers may use 252 MiB, 251 MiB are available"
    ):
        host.check_memory(10, 12 << 20, needed - 1)


def test_descriptor_limit_is_raised_as_far_as_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limit: limits.append(limit))
    assert host.raise_descriptor_limit() == 4096
    assert limits == [(4096, 4096)]


def test_too_few_descriptors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, 100))
    with pytest.raises(StartError, match="Host too small: 100 open files are allowed, midge needs 256"):
        host.raise_descriptor_limit()
