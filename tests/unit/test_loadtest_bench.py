"""The command line of `midge bench`, and how its plan spreads work; nothing is connected here."""

import pytest

from loadtest.bench import argument_parser, main, plan_from
from loadtest.client import Server
from loadtest.plan import Plan, PlanError, Scenario


def plan(*words: str) -> Plan:
    return plan_from(argument_parser().parse_args(list(words)))


def test_options_say_what_the_plan_does() -> None:
    found = plan("pubsub", "--msgs", "10", "--size", "16", "--pub", "3", "--sub", "2", "--threads", "2")
    assert (found.scenario, found.messages, found.size) == (Scenario.PUBSUB, 10, 16)
    assert [found.share(index) for index in range(3)] == [4, 3, 3]
    assert found.copies == 2
    assert {found.sender_row(index) for index in range(3)} == {0}
    assert {found.receiver_row(index) for index in range(2)} == {1}


def test_scenarios_have_their_own_defaults() -> None:
    assert plan("fanout").copies == 8
    assert (plan("queue").receiver_count, plan("queue").copies) == (4, 1)
    assert plan("pub").copies == plan("request").copies == 0
    assert plan("sub", "--sub", "3", "--msgs", "5").delivered_target == 15
    assert plan("pubsub", "--rate", "100").messages == 500


def test_publishers_wait_before_a_server_cuts_a_subscriber() -> None:
    assert plan("fanout", "--sub", "1000", "--size", "16").in_flight_max * 56 <= 32 << 20
    assert plan("fanout", "--sub", "1000", "--size", "1048576").in_flight_max == 1000


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("nats://127.0.0.1:4333", Server("127.0.0.1", 4333)),
        ("localhost", Server("localhost", 4222)),
        ("nats://ann:s%40crt@[::1]:1", Server("::1", 1, "ann", "s@crt")),
        ("nats://secret@host", Server("host", 4222, None, None, "secret")),
    ],
)
def test_server_urls_carry_credentials(url: str, server: Server) -> None:
    assert Server.from_url(url) == server


def test_credentials_of_the_command_line_win() -> None:
    found = plan("pub", "-s", "nats://ann:old@host", "--user", "bob", "--pass", "new").server
    assert (found.user, found.password) == ("bob", "new")
    assert b'"user": "bob", "pass": "new"' in found.connect_options("x")


@pytest.mark.parametrize(
    "words",
    [
        ["pub", "--msgs", "0"],
        ["pub", "--size", "-1"],
        ["sub", "--sub", "0"],
        ["pubsub", "--pairs", "--pub", "2"],
        ["pubsub", "--rate", "10", "--size", "8"],
        ["request", "--window", "0"],
        ["pub", "-s", "http://host"],
        ["pub", "--duration", "-1"],
    ],
    ids=" ".join,
)
def test_contradictions_are_refused_with_one_line(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_rate_needs_room_for_the_due_time() -> None:
    with pytest.raises(PlanError, match="16 bytes"):
        Plan(Scenario.FANOUT, rate=1.0, size=15)
