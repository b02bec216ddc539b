"""What README.md tells users is taken from README.md and tried, so that it stays true.

Commands of other programs (nats, npm, systemd) were tried by hand; only what midge itself must understand of
them is checked here.
"""

import configparser
import re
import shlex
import subprocess
import sys
from pathlib import Path

import bcrypt
import pytest
from support.npm import run_node

from loadtest.compare import __main__ as compare
from loadtest.compare.scenarios import chosen
from supervisor import config, flags

pytestmark = pytest.mark.servers("midge-2")

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
RUN_TIMEOUT_S = 60
PASSWORD = b"s3cret"
SERVE = (".venv/bin/midge", "serve")
BENCH = (".venv/bin/midge", "bench")
PYTHON = ".venv/bin/python"


def blocks(language):
    """Return the fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(*start):
    """Return the shell commands that begin with these words, each without them and without its comment."""
    words = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    return [line[len(start) :] for line in words if tuple(line[: len(start)]) == start]


def run(*words):
    """Run a program of midge's environment in the checkout and return its output; it must succeed."""
    completed = subprocess.run(
        words,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def accept(arguments):
    """Read arguments of `midge serve` and check them as it does."""
    return config.from_flags(flags.parse(arguments))


def test_python_snippets_print_what_they_promise(start, tmp_path):
    pid_file = tmp_path / "midge.pid"
    server = start(pid=str(pid_file), jetstream=True)
    outputs = []
    for snippet in blocks("python"):
        local = snippet.replace("127.0.0.1:4222", f"127.0.0.1:{server.port}")
        outputs.append(run(sys.executable, "-c", local.replace("/tmp/midge.pid", str(pid_file))))
    messages, payments, memory = outputs
    assert messages == "It is late\norders.new one apple {'Shop': 'Bonn'}\n"
    assert payments.splitlines() == [
        "p-1 is message 1 stored",
        "p-2 is message 2 stored",
        "p-1 is message 1 again",
        "booked 20",
    ]
    pids = [server.pid, *(worker.pid for worker in server.workers())]
    assert sorted(int(line.split()[0]) for line in memory.splitlines()) == sorted(pids)
    assert all(re.fullmatch(r"\d+ \d+\.\d MiB \d+ descriptors", line) for line in memory.splitlines())


def test_javascript_snippets_print_what_they_promise(start):
    server = start(jetstream=True)
    outputs = [
        run_node("--input-type=module", "-e", snippet.replace("127.0.0.1:4222", f"127.0.0.1:{server.port}"))
        for snippet in blocks("js")
    ]
    assert outputs == ["It is late\n", "blue\ndot has 1000000 bytes in 8 chunks\n"]


@pytest.mark.parametrize("arguments", commands(*BENCH), ids=" ".join)
def test_bench_commands_deliver_everything(server, arguments):
    midge = Path(sys.executable).parent / "midge"
    assert "CPU" in run(str(midge), "bench", *arguments, "-s", server.url, "--quiet")


def test_password_hashed_as_told_lets_its_user_in(start, dial, dial_raw):
    [make_hash] = [words for words in commands(PYTHON) if "bcrypt" in words[-1]]
    [shown] = {values.password for values in map(accept, commands(*SERVE)) if "$" in values.password}
    assert bcrypt.checkpw(PASSWORD, shown.encode())
    server = start(user="app", password=run(sys.executable, *make_hash).strip())
    dial(server, user="app", **{"pass": PASSWORD.decode()}).expect_nothing()
    stranger = dial_raw(server)
    with pytest.raises(AssertionError, match="Authorization Violation"):
        stranger.handshake(user="app", **{"pass": "secret"})


@pytest.mark.parametrize("arguments", commands(*SERVE), ids=" ".join)
def test_serve_commands_are_accepted(arguments):
    accept(arguments)


def test_service_unit_starts_midge():
    [unit] = blocks("ini")
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(unit)
    program, command, *arguments = shlex.split(parser["Service"]["ExecStart"])
    assert (program, command) == ("/opt/midge/bin/midge", "serve")
    assert accept(arguments).log_time is False


@pytest.mark.parametrize("arguments", commands(PYTHON, "-m", "loadtest.compare"), ids=" ".join)
def test_compare_commands_are_accepted(arguments):
    options = compare.argument_parser().parse_args(arguments)
    assert compare.worker_counts(options.workers)
    assert chosen(options.only)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    assert set(re.findall(r"(?:^ {4}|^|`)make (\w+)", README, re.MULTILINE)) <= targets


def test_flag_table_is_the_program_s():
    section = README.partition("\n## Flags\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    expected = []
    for flag in flags.FLAGS:
        spellings = ", ".join(f"`{spelling}`" for spelling in flag.spellings)
        value = f"`{flag.placeholder}`" if flag.placeholder else ""
        expected.append(f"| {spellings} | {value} | {flag.help} |")
    assert rows == expected


def test_places_named_exist():
    named = re.findall(r"(?:`|\]\()([a-zA-Z./]+(?:/|\.md|\.py))[`)#]", README)
    assert {"supervisor/", "ARCHITECTURE.md"} <= set(named)
    assert not [place for place in named if not (ROOT / place).exists()]
