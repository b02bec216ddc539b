"""Run the client suites of nats.py against midge: an on-demand tool, as they are in no package on PyPI.

    git clone https://github.com/nats-io/nats.py /tmp/nats.py
    python tests/support/client_suite.py /tmp/nats.py --workers 2
    python tests/support/client_suite.py /tmp/nats.py --suite js
    python tests/support/client_suite.py /tmp/nats.py --oracle      # with nats-server, to check this tool

The suite starts an executable called nats-server from PATH. This tool makes one in a temporary directory
that does `exec midge serve --workers N "$@"`, and runs the tests that a list names: of the core suite those
that need neither JetStream, accounts, a configuration file, TLS, NKeys nor clustering, and of the js suite
all but those that are marked there, as they need what midge does not have yet. The suites use the fixed ports
4222 to 4225, so nothing else may listen there. Words not known here go to pytest.

While midge has no monitoring port, the suite is made to wait for the client port instead of /varz (it would
go on after ten seconds as well).
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parents[2]
LISTS = PROJECT / "tests" / "system"
# Name of a suite here → its file in the checkout and the list of its tests.
SUITES = {
    "core": ("test_client.py", "nats_py_suite.txt"),
    "js": ("test_js.py", "nats_py_js_suite.txt"),
    "micro": ("test_micro_service.py", "nats_py_micro_suite.txt"),
}
READ_BY_TESTS = ("README.md", "pyproject.toml")

LAUNCHER = """#!/bin/sh
cd {project} && exec {python} -m supervisor.cli serve --workers {workers} "$@"
"""

# Becomes the conftest.py of the suite, which uses unittest.mock and leaves its import to others.
MISSING_IMPORT = "import unittest.mock\n"
# The same for midge: wait for the port that clients use.
WAIT_FOR_CLIENT_PORT = (
    MISSING_IMPORT
    + """
import socket, time
import tests.utils

def start_natsd(natsd):
    natsd.start()
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", natsd.port), timeout=5).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.1)

tests.utils.start_natsd = start_natsd
"""
)


def listed_tests(suite: str, with_marked: bool) -> list[str]:
    """Return the tests of a list as pytest names them, with or without those that carry a mark."""
    file, test_list = SUITES[suite]
    names = []
    for line in (LISTS / test_list).read_text().splitlines():
        name, _, mark = line.partition("#")
        if name.strip() and (with_marked or not mark):
            names.append(f"tests/{file}::{name.strip()}")
    return names


def prepare(directory: Path, checkout: Path, workers: int) -> None:
    """Lay out the suite in directory, and an executable nats-server that is midge when workers > 0."""
    shutil.copytree(checkout / "nats" / "tests", directory / "tests")
    for name in READ_BY_TESTS:
        shutil.copy(checkout / name, directory)
    (directory / "pytest.ini").write_text("[pytest]\n")
    (directory / "conftest.py").write_text(MISSING_IMPORT if workers == 0 else WAIT_FOR_CLIENT_PORT)
    if workers == 0:
        return
    binaries = directory / "bin"
    binaries.mkdir()
    launcher = binaries / "nats-server"
    launcher.write_text(
        LAUNCHER.format(
            project=shlex.quote(str(PROJECT)), python=shlex.quote(sys.executable), workers=workers
        )
    )
    launcher.chmod(0o755)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="a checkout of nats.py")
    parser.add_argument("--suite", choices=SUITES, default="core")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--oracle", action="store_true", help="run the real nats-server instead of midge")
    options, pytest_arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        prepare(directory, options.checkout, 0 if options.oracle else options.workers)
        tests = listed_tests(options.suite, with_marked=options.oracle)
        environment = {
            **os.environ,
            "PATH": f"{directory / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{directory}:{options.checkout / 'nats' / 'src'}",
        }
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio"]
        return subprocess.call([*command, *pytest_arguments, *tests], cwd=directory, env=environment)


if __name__ == "__main__":
    sys.exit(main())
