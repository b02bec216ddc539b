"""The command line is read as Go programs read theirs."""

import pytest

from supervisor import flags
from supervisor.flags import FlagError, parse


@pytest.mark.parametrize(
    "words", [["-p", "4333"], ["-p=4333"], ["--p", "4333"], ["--port", "4333"], ["-port=4333"], ['-p="4333"']]
)
def test_value_may_be_spelt_in_all_of_gos_ways(words: list[str]) -> None:
    assert parse(words)["port"] == 4333


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], False),
        (["-D"], True),
        (["--debug"], True),
        (["-D=false"], False),
        (["-D=1"], True),
        (["-D", "-D=0"], False),
    ],
)
def test_boolean_takes_no_word_after_it(words: list[str], expected: bool) -> None:
    assert parse(words)["log_debug"] is expected


def test_defaults_are_those_of_nats_server() -> None:
    values = parse([])
    assert values["host"] == "0.0.0.0"
    assert values["port"] == 4222
    assert values["max_payload"] == 1048576
    assert values["max_pending"] == 67108864
    assert values["max_connections"] == 65536
    assert values["ping_interval_ns"] == 120_000_000_000
    assert values["log_time"] is True


def test_last_of_equal_flags_wins() -> None:
    assert parse(["-p", "1", "--port=2", "-p", "3"])["port"] == 3


def test_value_may_begin_with_a_dash() -> None:
    assert parse(["-p", "-1"])["port"] == -1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--bogus"], "flag provided but not defined: -bogus"),
        (["-p"], "flag needs an argument: -p"),
        (["-p", "abc"], 'invalid value "abc" for flag -p: parse error'),
        (["-p", "1_0"], 'invalid value "1_0" for flag -p: parse error'),
        (["-D=maybe"], 'invalid boolean value "maybe" for flag -D: parse error'),
        (["foo"], 'unrecognized command: "foo"'),
        (["-D", "false"], 'unrecognized command: "false"'),
        (["-"], 'unrecognized command: "-"'),
        (["---p", "1"], "bad flag syntax: ---p"),
        (["-=1"], "bad flag syntax: -=1"),
        (["--ping_interval", "soon"], 'invalid value "soon" for flag -ping_interval: parse error'),
        (["-c", "nats.conf"], "flag -c is not supported yet"),
        (["-ms", "8222"], "flag -ms is not supported yet"),
        (["--js_sync_interval", "never"], 'invalid value "never" for flag -js_sync_interval: parse error'),
        (["--tlscert=a"], "flag -tlscert is not supported yet"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(words: list[str], text: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse(words)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1024", 1024),
        ("1K", 1000),
        ("1KB", 1024),
        ("1kib", 1024),
        ("64MB", 64 << 20),
        ("8MiB", 8 << 20),
        ("1Gb", 1 << 30),
        ("2g", 2_000_000_000),
        ("5B", 5),
    ],
)
def test_sizes_have_the_units_of_the_configuration_language(text: str, expected: int) -> None:
    assert flags.parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "MB", "1.5MB", "1XB", "0x10", "1BB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        flags.parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("2", 2_000_000_000),
        ("2m", 120_000_000_000),
        ("100ms", 100_000_000),
        ("1m30s", 90_000_000_000),
        ("1.5s", 1_500_000_000),
        ("10us", 10_000),
        ("10µs", 10_000),
        ("1h", 3_600_000_000_000),
        ("0s", 0),
    ],
)
def test_durations_are_gos(text: str, expected_ns: int) -> None:
    assert flags.parse_duration_ns(text) == expected_ns


@pytest.mark.parametrize("text", ["", "s", "1d", "1.2.3s", "-1s", "1 s", "5m3"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        flags.parse_duration_ns(text)


def test_no_spelling_is_used_twice() -> None:
    spellings = [spelling.lstrip("-") for flag in flags.FLAGS for spelling in flag.spellings]
    assert len(spellings) == len(set(spellings))
    assert not flags.RESERVED.intersection(spellings)


def test_help_names_every_flag() -> None:
    words = flags.help_text().replace(",", " ").split()
    for flag in flags.FLAGS:
        assert set(flag.spellings) <= set(words)


def test_jetstream_is_off_unless_asked_for() -> None:
    assert parse([])["jetstream"] is False
    assert parse(["-js"])["jetstream"] is True
    assert parse(["-js", "-sd=/data"])["store_dir"] == "/data"


@pytest.mark.parametrize(
    ("words", "expected_ns"),
    [("", 0), ("--js_sync_interval always", 0), ("--js_sync_interval=2m", 120_000_000_000)],
)
def test_everything_is_synced_unless_an_interval_is_given(words: str, expected_ns: int) -> None:
    assert parse(words.split())["sync_interval_ns"] == expected_ns
