"""Compare midge with nats-server: `python -m loadtest.compare`.

Exit status: 0; 1 when any run failed; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from loadtest.compare.plot import write_plot
from loadtest.compare.rounds import compare
from loadtest.compare.scenarios import COMPARISONS, chosen
from loadtest.compare.servers import contenders
from loadtest.compare.table import as_dict, as_table


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.compare", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--workers", default="1,2", help="worker counts of midge, default %(default)s")
    add("-n", "--rounds", type=int, default=5, help="default %(default)s; 7 or more for a verdict")
    add("--seconds", type=float, default=1.0, help="of publishing in one run, default %(default)s")
    add("--only", metavar="PATTERNS", help="scenarios, e.g. '1to1_*,rr1'")
    add("--list", action="store_true", help="list the scenarios")
    add("--midge", metavar="COMMAND", help="command line with {port} and {workers}")
    add("--nats-server", metavar="COMMAND", help="command line with {port}")
    add("--json", type=Path, metavar="FILE", help="write all figures")
    add("--plot", type=Path, metavar="FILE", help="write the ratios as PNG (needs matplotlib)")
    return parser


def worker_counts(text: str) -> list[int]:
    """Read `1,2`.

    Raises:
        ValueError: not numbers above 0.
    """
    counts = [int(word) for word in text.split(",")]
    if min(counts) < 1:
        raise ValueError(f"{min(counts)} workers")
    return counts


def main(argv: list[str]) -> int:
    """Run the comparison with its arguments and return the exit status."""
    options = argument_parser().parse_args(argv)
    if options.list:
        print("\n".join(f"{comparison.name:<14}{comparison.what}" for comparison in COMPARISONS))
        return 0
    try:
        servers = contenders(worker_counts(options.workers), options.midge, options.nats_server)
        work = chosen(options.only)
        if options.rounds < 1 or options.seconds <= 0:
            raise ValueError("rounds and seconds must be above 0")
    except ValueError as error:
        print(f"loadtest.compare: {error}", file=sys.stderr)
        return 2
    results = compare(
        servers,
        work,
        options.rounds,
        int(options.seconds * 1e9),
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(as_table(results, servers, work))
    if options.json:
        options.json.write_text(json.dumps(as_dict(results, servers, work), indent=1) + "\n")
    if options.plot:
        write_plot(options.plot, results, servers, work)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
