"""The `midge` command.

Before anything of ours is imported it checks that the packages found are ours: their names are common
words, and another distribution (PyPI's "supervisor" for one) may have put its own under them.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder

PROGRAM_NAME = "midge"
# Called by this name (a link to midge), the command takes nats-server's arguments: there is no `serve` in
# front.
COMPATIBLE_NAME = "nats-server"

USAGE = """Usage: midge <command> [options]

Commands:
    serve      Run the broker; `midge serve --help` lists its options
    bench      Measure a broker; `midge bench --help` lists its options
    check      Say what is damaged in a store; `midge check --help` lists its options
    version    Show the version
    help       Show this message"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Args:
        arguments: words after the program name; None takes those of this process.
    """
    program = os.path.basename(sys.argv[0])
    words = sys.argv[1:] if arguments is None else arguments
    if program == COMPATIBLE_NAME:
        words = ["serve", *words]
    problem = find_hidden_package(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if problem:
        return _refuse(problem)
    command = words[0] if words else "help"
    if command == "serve":
        return _serve(words[1:])
    if command == "bench":
        from loadtest.bench import main as bench

        status: int = bench(words[1:])
        return status
    if command == "check":
        from storage.check import main as check

        return check(words[1:])
    if command in ("version", "-v", "--version", "-version"):
        from supervisor.config import MIDGE_VERSION

        print(f"{PROGRAM_NAME}: v{MIDGE_VERSION}")
        return 0
    if command in ("help", "-h", "--help", "-help"):
        print(USAGE)
        return 0
    return _refuse(f'unrecognized command: "{command}"')


def find_hidden_package(home: str) -> str:
    """Return what is wrong with the packages that midge consists of, "" if nothing is.

    Args:
        home: the folder that holds supervisor/.
    """
    for name in ("workers", "shm", "storage"):
        spec = PathFinder.find_spec(name)
        if spec is None or spec.origin is None:
            return f"the package {name} is missing from {home}; install midge again"
        found = os.path.dirname(os.path.abspath(spec.origin))
        if found != os.path.join(home, name):
            return f"{found} hides the package {name} of {home}; install midge in an environment of its own"
    return ""


def _serve(arguments: list[str]) -> int:
    from supervisor import config, flags
    from supervisor.errors import StartError

    try:
        values = flags.parse(arguments)
        if values["help"]:
            print(flags.help_text())
            return 0
        if values["version"]:
            # The words of nats-server: scripts that start a server read this to know what it can do.
            print(f"{COMPATIBLE_NAME}: v{config.NATS_SERVER_VERSION}")
            return 0
        if values["signal"]:
            from supervisor.signals import send_signal

            send_signal(str(values["signal"]))
            return 0
        settings = config.from_flags(values)
        from supervisor import start

        return start.serve(settings)
    except (flags.FlagError, StartError) as error:
        return _refuse(str(error))


def _refuse(text: str) -> int:
    print(f"{PROGRAM_NAME}: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
