"""The source keeps rules that no tool checks: imports, what lies beside a .pyx, how long files are."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from supervisor.config import MIDGE_VERSION

ROOT = Path(__file__).parents[2]
PACKAGES = ("supervisor", "workers", "shm", "storage", "loadtest")
# What a folder may import of ours. loadtest speaks TCP only, but for micro/, which measures modules
# directly, and the command line, which starts the load generator.
ALLOWED_IMPORTS = {
    "supervisor": {"supervisor", "workers", "shm", "storage", "loadtest"},
    "workers": {"workers", "shm", "storage"},
    "shm": {"shm"},
    "storage": {"storage"},
    "loadtest": {"loadtest"},
    "loadtest/micro": {"loadtest", "workers", "shm", "storage"},
}
# The one file that may reach from the broker to the load generator.
LOADTEST_CALLER = "supervisor/cli.py"
# PyPI's "supervisor" has modules of these names: installed together, one would replace the other.
FORBIDDEN_IN_SUPERVISOR = {
    *("process", "events", "options", "http", "states", "web", "loggers"),
    *("poller", "dispatchers", "datatypes", "compat", "rpcinterface"),
}
FORBIDDEN_NAMES = {"utils", "common", "helpers"}
PYX_FIRST_LINE = "# cython: language_level=3, embedsignature=True, wraparound=False"
FILE_LINES_MAX = 700
WAITING_FILE = "tests/support/wait.py"
SCRIPT_WAITING_FILE = "tests/system/npm/reading.mjs"


def files(*patterns: str) -> list[Path]:
    """Return our source files of these patterns, below the packages and tests."""
    return sorted(
        path
        for folder in (*PACKAGES, "tests")
        for pattern in patterns
        for path in (ROOT / folder).rglob(pattern)
    )


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def names(paths: list[Path]) -> list[str]:
    return [name(path) for path in paths]


def imported_packages(path: Path) -> set[str]:
    """Return the top-level packages that a Python or Cython file imports."""
    text = path.read_text()
    if path.suffix == ".py":
        found = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name(path)}: relative import"
                found.add((node.module or "").partition(".")[0])
        return found
    return set(re.findall(r"^\s*(?:from|cimport|import)\s+(\w+)", text, re.MULTILINE))


SOURCES = [path for path in files("*.py", "*.pyx", "*.pxd", "*.pyi") if not name(path).startswith("tests/")]


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_imports_go_down_only(path: Path) -> None:
    """supervisor -> workers -> storage, shm; those two import nothing of ours, not even each other."""
    folder = "loadtest/micro" if name(path).startswith("loadtest/micro/") else name(path).partition("/")[0]
    ours = imported_packages(path) & {*PACKAGES, "tests"}
    assert ours <= ALLOWED_IMPORTS[folder]
    if folder == "supervisor" and "loadtest" in ours:
        assert name(path) == LOADTEST_CALLER


PYX = files("*.pyx")


@pytest.mark.parametrize("path", PYX, ids=names(PYX))
def test_compiled_module_is_described_three_times(path: Path) -> None:
    """The .pxd for Cython, the .pyi for mypy, and the entry in pyproject.toml for the build."""
    assert path.with_suffix(".pxd").exists()
    assert path.with_suffix(".pyi").exists()
    assert path.read_text().splitlines()[0] == PYX_FIRST_LINE
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    modules = {entry["name"]: entry for entry in project["tool"]["setuptools"]["ext-modules"]}
    entry = modules[name(path).removesuffix(".pyx").replace("/", ".")]
    assert entry["sources"] == [name(path)]
    for depended in entry.get("depends", []):
        assert (ROOT / depended).exists(), depended


def test_every_entry_of_the_build_has_its_source() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for entry in project["tool"]["setuptools"]["ext-modules"]:
        assert all((ROOT / source).exists() for source in entry["sources"])


LONG = files("*.py", "*.pyx", "*.pxd", "*.pyi", "*.h")


@pytest.mark.parametrize("path", LONG, ids=names(LONG))
def test_file_is_short_enough_to_be_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= FILE_LINES_MAX


def test_file_names_say_what_is_inside() -> None:
    stems = {name(path): path.stem for path in files("*.py", "*.pyx", "*.h")}
    assert not [path for path, stem in stems.items() if stem in FORBIDDEN_NAMES]
    assert not [
        path
        for path, stem in stems.items()
        if path.startswith("supervisor/") and stem in FORBIDDEN_IN_SUPERVISOR
    ]


def test_tests_are_no_package() -> None:
    """An __init__.py there would hide the real packages from tests of the same name."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


TESTS = [path for path in files("*.py") if name(path).startswith("tests/")]


@pytest.mark.parametrize("path", TESTS, ids=names(TESTS))
def test_tests_wait_for_conditions_not_for_time(path: Path) -> None:
    if name(path) == WAITING_FILE:
        return
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", ""))
        == "sleep"
        # sleep(0) lets other tasks run and waits for nothing.
        and not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    ]
    assert not calls, f"sleeps in lines {calls}"


SCRIPTS = sorted((ROOT / "tests/system/npm").glob("*.mjs"))


@pytest.mark.parametrize("path", SCRIPTS, ids=names(SCRIPTS))
def test_scripts_wait_for_conditions_not_for_time(path: Path) -> None:
    waits = re.findall(r"\b(?:setTimeout|delay)\(", path.read_text())
    assert name(path) == SCRIPT_WAITING_FILE or not waits


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["version"] == MIDGE_VERSION
