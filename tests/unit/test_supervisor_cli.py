"""The command says what it is, what it can do, and who hides a part of it."""

import os
import sys
from pathlib import Path

import pytest

from supervisor import cli
from supervisor.config import MIDGE_VERSION

HOME = Path(cli.__file__).parents[1]


@pytest.mark.parametrize("words", [["version"], ["--version"], ["-v"]])
def test_version_is_midges_own(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"midge: v{MIDGE_VERSION}\n"


@pytest.mark.parametrize("words", [["-v"], ["--version"], ["-p", "1", "-version"]])
def test_version_of_serve_is_that_of_the_nats_server_implemented(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", *words]) == 0
    assert capsys.readouterr().out == "nats-server: v2.15.1\n"


def test_command_called_nats_server_needs_no_serve(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/bin/nats-server", "-v"])
    assert cli.main() == 0
    assert capsys.readouterr().out == "nats-server: v2.15.1\n"


@pytest.mark.parametrize(
    ("words", "text"), [([], "bench"), (["help"], "bench"), (["serve", "-h"], "--workers")]
)
def test_help_goes_to_standard_output(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 0
    assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["sreve"], 'midge: unrecognized command: "sreve"'),
        (["serve", "--bogus"], "midge: flag provided but not defined: -bogus"),
        (["serve", "-n", "a b"], "midge: server name cannot contain spaces"),
        (["serve", "-sl", "bogus"], 'midge: unknown signal "bogus"'),
    ],
)
def test_mistake_is_one_line_on_standard_error(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", text + "\n")


def test_nothing_hides_our_packages_here() -> None:
    assert cli.find_hidden_package(str(HOME)) == ""


def test_package_found_elsewhere_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "shm").mkdir()
    (tmp_path / "shm" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    problem = cli.find_hidden_package(str(HOME))
    assert problem.startswith(f"{tmp_path}/shm hides the package shm of {HOME}")


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if os.path.basename(path) == "unused"])
    assert cli.find_hidden_package(str(HOME)).startswith("the package workers is missing")


def test_check_says_that_there_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(tmp_path)]) == 2
    assert f"{tmp_path}: no store here" in capsys.readouterr().err
