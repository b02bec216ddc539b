"""Objects much larger than what a worker may keep in memory stream through it, by @nats-io/obj.

An object of 1 GiB, with the memory of every process beside that of nats-server:

    make test ARGS="-k large_object --object-mib 1024 -s -o faulthandler_timeout=600"
"""

import re
from pathlib import Path

import pytest
from support.npm import start_node
from support.wait import wait_until

pytestmark = pytest.mark.servers("midge-1", "midge-2", "nats-server")

MIB = 1 << 20
# Much less than the object. What grows is blocks on their way: unwritten tails, pages that were read, output.
GROWTH_MIB_MAX = 64
SECONDS_PER_MIB = 1
SECONDS_MIN = 60


def memory_mib(process):
    """Return what a process has in memory, and how much of that is its own and in no file, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return [
        int(re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)[1]) / 1024
        for name in ("VmRSS", "RssAnon")
    ]


def run_and_watch(server, *arguments, timeout_s):
    """Run the client and return what it printed and how much each process of the server grew, in MiB."""
    processes = server.processes()
    idle = [memory_mib(process) for process in processes]
    peak = [list(values) for values in idle]
    client = start_node("large_object.mjs", server.url, *arguments)

    def has_ended():
        for process, highest in zip(processes, peak, strict=True):
            highest[:] = map(max, highest, memory_mib(process))
        return client.poll() is not None

    try:
        wait_until(has_ended, f"the client to {arguments[0]}", timeout_s)
    finally:
        client.kill()
        output, errors = client.communicate()
    assert client.returncode == 0, errors
    for process, before, highest in zip(processes, idle, peak, strict=True):
        print(
            f"{server.kind} {process.pid} {arguments[0]}: RSS {before[0]:.0f}, at most {highest[0]:.0f} MiB"
        )
    return output, [highest[1] - before[1] for before, highest in zip(idle, peak, strict=True)]


def test_large_object_needs_no_memory_of_its_size(start, request):
    object_mib = request.config.getoption("--object-mib")
    timeout_s = max(SECONDS_MIN, SECONDS_PER_MIB * object_mib)
    server = start(jetstream=True)
    put, growth = run_and_watch(server, "put", str(object_mib * MIB), timeout_s=timeout_s)
    assert put.startswith(f"{object_mib * MIB} SHA-256=")
    got, growth_of_get = run_and_watch(server, "get", "", timeout_s=timeout_s)
    assert got == put
    if server.is_midge:
        assert max(growth) < GROWTH_MIB_MAX, growth
        assert max(growth_of_get) < GROWTH_MIB_MAX, growth_of_get
