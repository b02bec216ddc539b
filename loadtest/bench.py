"""`midge bench`: load a NATS server and report rates and latencies.

Exit status: 0; 1 when anything was lost, reordered, damaged or refused; 2 for wrong usage; 130 after an
interrupt.
"""

from __future__ import annotations

import argparse
import sys

from loadtest.client import Server, ServerError
from loadtest.plan import SEQUENCE_LIMIT, Plan, PlanError, Scenario
from loadtest.report import ProgressLine, as_json, as_table
from loadtest.runner import Around, run

MESSAGES_DEFAULT = 1_000_000
REQUESTS_DEFAULT = 100_000
PACED_SECONDS_DEFAULT = 5
SUBSCRIBERS_DEFAULT = {Scenario.FANOUT: 8, Scenario.QUEUE: 4}
IDLE_SECONDS_DEFAULT = 10.0
# Foreign publishers may be started by hand, after the subscribers.
IDLE_SECONDS_FOREIGN = 60.0
SCENARIO_HELP = """scenarios:
  pub      publish only; ends when the server has taken everything in
  sub      subscribe only; somebody else publishes (with --verify: a `bench pub` of the same size)
  pubsub   every subscriber gets every message; with --pairs, subscriber i those of publisher i
  fanout   pubsub with one publisher and eight subscribers
  queue    the subscribers are one queue group (four by default)
  request  request/reply; --window 1 measures latency, more the rate; --sub 0: the service is elsewhere

With --rate messages fall due by the clock, whatever the server does, and latency counts from the moment a
message was due, so a stalled server shows up in the percentiles of all the messages it kept waiting."""


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of `midge bench`."""
    parser = argparse.ArgumentParser(
        prog="midge bench",
        description="Load a NATS server and check that everything arrives.",
        epilog=SCENARIO_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("scenario", choices=[str(scenario) for scenario in Scenario])
    add("-s", "--server", default="nats://127.0.0.1:4222", metavar="URL", help="default %(default)s")
    add("--user", help="user name")
    add("--pass", dest="password", help="password")
    add("--token", help="authentication token")
    add("--msgs", type=int, help="messages of all publishers together (sub: for each subscriber)")
    add("--size", type=int, default=128, help="payload bytes, default %(default)s")
    add("--pub", type=int, default=1, help="publishers or requesters, default %(default)s")
    add("--sub", type=int, help="subscribers or responders, default 1 (fanout 8, queue 4)")
    add("--subject", default="bench", help="default %(default)s")
    add(
        "--subjects",
        type=int,
        default=1,
        metavar="N",
        help="spread messages over N subjects <subject>.<number>",
    )
    add("--pairs", action="store_true", help="publisher i reaches subscriber i alone")
    add("--window", type=int, default=1, help="requests in flight per requester, default %(default)s")
    add("--duration", type=float, default=0.0, metavar="SECONDS", help="stop publishing after so long")
    add("--rate", type=float, default=0.0, help="messages a second of all publishers together, open loop")
    add("--threads", type=int, default=1, help="client threads, default %(default)s")
    add("--verify", action="store_true", help="sub: check sizes and order of what `bench pub` publishes")
    add("--idle-timeout", type=float, metavar="SECONDS", help="give up after so long without progress")
    add("--json", action="store_true", help="print one JSON object instead of the table")
    add("--quiet", action="store_true", help="no progress line")
    return parser


def default_messages(options: argparse.Namespace, scenario: Scenario) -> int:
    """Return how many messages to send when the command line does not say."""
    if options.duration:
        return SEQUENCE_LIMIT
    if options.rate:
        return max(1, int(options.rate * PACED_SECONDS_DEFAULT))
    return REQUESTS_DEFAULT if scenario is Scenario.REQUEST else MESSAGES_DEFAULT


def plan_from(options: argparse.Namespace) -> Plan:
    """Return the plan that the command line describes.

    Raises:
        PlanError, ValueError: options that contradict each other or a bad server URL.
    """
    scenario = Scenario(options.scenario)
    if options.duration < 0:
        raise PlanError(f"a duration of {options.duration} s")
    idle_s = options.idle_timeout
    if idle_s is None:
        idle_s = IDLE_SECONDS_FOREIGN if scenario is Scenario.SUB else IDLE_SECONDS_DEFAULT
    # A slow schedule is no standstill.
    idle_s = max(idle_s, 3 / options.rate) if options.rate else idle_s
    return Plan(
        scenario=scenario,
        server=Server.from_url(options.server, options.user, options.password, options.token),
        messages=options.msgs if options.msgs is not None else default_messages(options, scenario),
        size=options.size,
        publishers=options.pub,
        subscribers=options.sub if options.sub is not None else SUBSCRIBERS_DEFAULT.get(scenario, 1),
        subject=options.subject,
        window=options.window,
        duration_ns=int(options.duration * 1e9),
        rate=options.rate,
        threads=options.threads,
        subject_count=options.subjects,
        pairs=options.pairs,
        verify=options.verify,
        idle_ns=int(idle_s * 1e9),
    )


def main(argv: list[str]) -> int:
    """Run `midge bench` with its arguments and return the exit status."""
    parser = argument_parser()
    options = parser.parse_args(argv)
    try:
        plan = plan_from(options)
    except ValueError as error:
        print(f"midge bench: {error}", file=sys.stderr)
        return 2
    progress = ProgressLine(sys.stderr)
    around = Around() if options.quiet else Around(watch=progress.show)
    try:
        outcome = run(plan, around)
    except (OSError, ServerError) as error:
        print(f"midge bench: {plan.server.host}:{plan.server.port}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.end()
        print("midge bench: interrupted", file=sys.stderr)
        return 130
    progress.end()
    print(as_json(plan, outcome) if options.json else as_table(plan, outcome))
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
