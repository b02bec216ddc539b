"""What contradicts itself is refused before the machine is touched."""

import dataclasses
import os

import pytest

from supervisor.config import ServerConfig, from_flags, join_host_port
from supervisor.flags import FlagError, parse
from workers.config import WorkerConfig


def config(*words: str, usable_cores: int = 2) -> ServerConfig:
    return from_flags(parse(words), usable_cores)


def worker_config(*words: str, port: int = 4222) -> WorkerConfig:
    return config(*words).for_worker(1, server_id="NABC", port=port, ring_epochs=[[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("-p 65536", "invalid port 65536 for flag -p: must be -1 or 0 to 65535"),
        ("-p -2", "invalid port -2 for flag -p: must be -1 or 0 to 65535"),
        ("--workers 0", "invalid value 0 for flag --workers: must be 1 to 64"),
        ("--workers 65", "invalid value 65 for flag --workers: must be 1 to 64"),
        ("--user derek", "--user was given without --pass"),
        ("--pass secret", "--pass was given without --user"),
        ("--auth t --user u --pass p", "--auth cannot be used together with --user and --pass"),
        ("--max_payload 10 --max_pending 5", "max_payload (10) cannot be higher than max_pending (5)"),
        ("--max_payload 0", "invalid value 0 for flag --max_payload: must be 1 to 999999999"),
        ("--ping_interval 0s", "invalid value 0 for flag --ping_interval: must be longer than 0"),
        (
            "--lame_duck_duration 5s --lame_duck_grace_period 5s",
            "lame duck grace period should be strictly lower than lame duck duration",
        ),
        (
            "--client_advertise host:bad",
            'invalid value "host:bad" for flag --client_advertise: want host or host:port',
        ),
    ],
)
def test_contradictions_are_refused_in_one_line(words: str, text: str) -> None:
    with pytest.raises(FlagError) as caught:
        config(*words.split())
    assert str(caught.value) == text


def test_server_name_has_no_spaces() -> None:
    with pytest.raises(FlagError, match="server name cannot contain spaces"):
        config("-n", "a b")


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (200, 64)])
def test_there_is_a_worker_per_usable_core(cores: int, workers: int) -> None:
    assert config(usable_cores=cores).worker_count == workers


def test_cores_that_this_process_may_not_use_do_not_count() -> None:
    assert from_flags(parse([])).worker_count == min(64, len(os.sched_getaffinity(0)))


def test_port_minus_one_means_any() -> None:
    assert config("-p", "-1").port == 0


@pytest.mark.parametrize(
    ("words", "debug", "trace"),
    [
        ("", False, False),
        ("-D", True, False),
        ("-V", False, True),
        ("-VV", False, True),
        ("-DV", True, True),
        ("-DVV", True, True),
        ("-DV=false -V", False, True),
    ],
)
def test_debug_and_trace_flags_add_up(words: str, debug: bool, trace: bool) -> None:
    settings = config(*words.split())
    assert (settings.log_debug, settings.log_trace) == (debug, trace)


def test_log_file_is_found_from_any_folder() -> None:
    assert config("-l", "midge.log").log_file == os.path.abspath("midge.log")


def test_worker_gets_every_setting_of_the_same_name() -> None:
    settings = config("--user", "u", "--pass", "p", "--max_payload", "64K", "-n", "one", "--workers", "2")
    told = dataclasses.asdict(
        settings.for_worker(1, server_id="NABC", port=4333, ring_epochs=[[0, 1], [1, 0]])
    )
    same = dataclasses.asdict(settings)
    del same["port"]
    for name in same.keys() & told.keys():
        assert told[name] == same[name], name
    assert told["index"] == 1
    assert told["port"] == 4333
    assert told["connect_urls"] == []


def test_server_is_called_by_its_id_unless_it_has_a_name() -> None:
    assert worker_config().server_name == "NABC"
    assert worker_config("-n", "one").server_name == "one"


@pytest.mark.parametrize(
    ("text", "host", "port", "url"),
    [
        ("broker.example:1234", "broker.example", 1234, "broker.example:1234"),
        ("broker.example", "broker.example", 4222, "broker.example:4222"),
        ("[::1]:7", "::1", 7, "[::1]:7"),
        ("::1", "::1", 4222, "[::1]:4222"),
    ],
)
def test_advertised_address_takes_the_place_of_the_listeners(
    text: str, host: str, port: int, url: str
) -> None:
    told = worker_config("--client_advertise", text)
    assert (told.host, told.port, told.connect_urls) == (host, port, [url])


def test_ipv6_addresses_get_brackets() -> None:
    assert join_host_port("::", 1) == "[::]:1"
    assert join_host_port("127.0.0.1", 1) == "127.0.0.1:1"


def test_monitoring_port_is_taken_though_nothing_listens_there_yet() -> None:
    """Launchers and client test suites pass -m whether they need it or not."""
    assert config("-m", "8222").monitoring_port == 8222
    assert config().monitoring_port == 0


def test_control_line_must_fit_what_workers_tell_each_other() -> None:
    assert config("--max_control_line", "60000").max_control_line == 60_000
    with pytest.raises(FlagError, match="must be 64 to 60000"):
        config("--max_control_line", "60001")
