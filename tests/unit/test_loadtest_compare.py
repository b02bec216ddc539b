"""Statistics, tables and choices of the comparison; no server runs here."""

import json
from pathlib import Path

import pytest

from loadtest.compare.__main__ import main, worker_counts
from loadtest.compare.plot import gain, write_plot
from loadtest.compare.ratios import Ratio, pairwise
from loadtest.compare.rounds import Results
from loadtest.compare.scenarios import CPU, RATE, chosen
from loadtest.compare.servers import BASELINE, Contender, contenders
from loadtest.compare.table import as_dict, as_table

SERVERS = [Contender(BASELINE, "a"), Contender("midge-1", "b")]


def results() -> Results:
    found = Results()
    for base, ours in ((100.0, 700.0), (200.0, 1000.0), (100.0, 900.0)):
        found.add("pub_16", BASELINE, {RATE: base, CPU: 1.0})
        found.add("pub_16", "midge-1", {RATE: ours, CPU: 0.1})
    return found


def test_the_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    assert pairwise([700.0, 1000.0, 900.0], [100.0, 200.0, 100.0]) == Ratio(7.0, 5.0, 9.0, 3)
    assert pairwise([1.0, 2.0], [2.0, 2.0]) == Ratio(0.75, 0.5, 1.0, 2)


def test_rounds_with_a_failed_run_do_not_count() -> None:
    assert pairwise([None, 4.0, 8.0], [1.0, None, 2.0]) == Ratio(4.0, 4.0, 4.0, 1)
    assert pairwise([None], [1.0]) is None
    assert pairwise([1.0], [0.0]) is None


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (Ratio(7.0, 5.0, 12.34, 3), "7.00 (5.00-12.3)"),
        (Ratio(1.02, 0.97, 1.1, 3), "~1.02 (0.97-1.10)"),
        (Ratio(0.5, 0.4, 0.9, 3), "0.50 (0.40-0.90)"),
    ],
)
def test_a_ratio_on_which_rounds_disagree_is_marked(ratio: Ratio, text: str) -> None:
    assert ratio.text() == text


def test_costs_are_turned_over_for_the_plot() -> None:
    assert gain(Ratio(0.5, 0.25, 1.0, 3), CPU) == Ratio(2.0, 1.0, 4.0, 3)
    assert gain(Ratio(0.5, 0.25, 1.0, 3), RATE) == Ratio(0.5, 0.25, 1.0, 3)


def test_tables_and_json_show_ratios_and_failures() -> None:
    found = results()
    found.failures.append("pub_16 on midge-1: lost")
    table = as_table(found, SERVERS, chosen("pub_16"))
    assert "7.00 (5.00-9.00)" in table
    assert "FAILED pub_16 on midge-1: lost" in table
    stored = json.loads(json.dumps(as_dict(found, SERVERS, chosen("pub_16"))))
    assert stored["ratios"]["pub_16"]["midge-1"][CPU]["median"] == 0.1
    assert len(stored["figures"]["pub_16"][BASELINE]) == 3


def test_a_plot_is_written(tmp_path: Path) -> None:
    path = tmp_path / "ratios.png"
    write_plot(path, results(), SERVERS, chosen("pub_16,rr1"))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_scenarios_are_chosen_by_patterns() -> None:
    assert [comparison.name for comparison in chosen("1to1_1*,rr1")] == [
        "1to1_16",
        "1to1_128",
        "1to1_1k",
        "rr1",
    ]
    with pytest.raises(ValueError, match="nonsense"):
        chosen("rr1,nonsense")


def test_command_lines_can_be_replaced() -> None:
    found = contenders([1, 2], "my midge -p {port} -w {workers}", "my-nats {port}")
    assert [contender.name for contender in found] == [BASELINE, "midge-1", "midge-2"]
    assert found[2].arguments(4333) == ["my", "midge", "-p", "4333", "-w", "2"]
    assert found[0].arguments(4333) == ["my-nats", "4333"]


def test_wrong_usage_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert worker_counts("1,2,4") == [1, 2, 4]
    for words in (["--workers", "0"], ["--only", "nonsense"], ["-n", "0"], ["--seconds", "0"]):
        assert main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert "1to1_16" in capsys.readouterr().out
