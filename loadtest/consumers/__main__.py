"""Compare what consumers cost: `python -m loadtest.consumers`.

Exit status: 0; 1 when any run failed; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from loadtest.client import ServerError
from loadtest.compare.rounds import Figures, Results
from loadtest.compare.scenarios import CPU, RATE, Comparison
from loadtest.compare.servers import Contender, RunningServer, ServerFailed, contenders, running
from loadtest.compare.table import as_table
from loadtest.consumers.latency import measure_latency
from loadtest.consumers.publishing import measure_publishing

Measure = Callable[[RunningServer], Figures]
STORE = "-js -sd store"


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.consumers", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--workers", type=int, default=1, help="of midge, default %(default)s")
    add("-n", "--rounds", type=int, default=3, help="default %(default)s")
    add("--messages", type=int, default=200_000, help="of one run for the rate, default %(default)s")
    add("--one-by-one", type=int, default=5_000, help="of one run for the latency, default %(default)s")
    add("--consumers", type=int, default=1_000, help="default %(default)s")
    add("--storage", choices=("file", "memory"), default="file")
    add("--sync", default="2m", help="midge's --js_sync_interval, default %(default)s as with nats-server")
    add("--only", metavar="PREFIX", default="", help="e.g. publish, latency_pull")
    add("--midge", metavar="COMMAND", help="command line with {port} and {workers}")
    add("--nats-server", metavar="COMMAND", help="command line with {port}")
    return parser


def scenarios(options: argparse.Namespace) -> list[tuple[Comparison, Measure]]:
    """Return what is to be measured."""
    found: list[tuple[Comparison, Measure]] = []
    for kind in ("none", "idle", "pull", "push"):
        count = 1 if kind == "none" else options.consumers
        found.append(
            (
                Comparison(f"publish_{kind}", f"{count} consumers, one wants the message", (RATE, CPU)),
                lambda server, kind=kind, count=count: measure_publishing(  # type: ignore[misc]
                    server, options.messages, count, kind, options.storage
                ),
            )
        )
    for kind in ("pull", "push"):
        found.append(
            (
                Comparison(f"latency_{kind}", "publish to confirmed acknowledgement", ("p50_us", "p99_us")),
                lambda server, kind=kind: measure_latency(  # type: ignore[misc]
                    server, options.one_by_one, kind, options.storage
                ),
            )
        )
    return [
        (comparison, measure) for comparison, measure in found if comparison.name.startswith(options.only)
    ]


def measure_all(
    servers: list[Contender], work: list[tuple[Comparison, Measure]], rounds: int, say: Callable[[str], None]
) -> Results:
    """Do everything, the servers in turn on the same work, and every second round backwards."""
    results = Results()
    for number in range(rounds):
        for comparison, measure in work:
            for contender in servers if number % 2 == 0 else list(reversed(servers)):
                say(f"round {number + 1}/{rounds}  {comparison.name}  {contender.name}")
                figures = None
                try:
                    with running(contender) as server:
                        figures = measure(server)
                except (ServerFailed, ServerError, OSError) as error:
                    results.failures.append(f"{comparison.name} on {contender.name}: {error}")
                results.add(comparison.name, contender.name, figures)
    return results


def main(argv: list[str]) -> int:
    """Run the comparison with its arguments and return the exit status."""
    options = argument_parser().parse_args(argv)
    servers = contenders([options.workers], options.midge, options.nats_server)
    sync = f" --js_sync_interval {options.sync}"
    servers = [
        Contender(one.name, f"{one.command} {STORE}{sync if one.name.startswith('midge') else ''}")
        for one in servers
    ]
    work = scenarios(options)
    if not work or options.rounds < 1 or options.messages < 1 or options.consumers < 1:
        print("loadtest.consumers: nothing to measure", file=sys.stderr)
        return 2
    results = measure_all(
        servers, work, options.rounds, lambda line: print(line, file=sys.stderr, flush=True)
    )
    print(as_table(results, servers, [comparison for comparison, _ in work]))
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
