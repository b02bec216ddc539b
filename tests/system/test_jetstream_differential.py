"""The same random requests get the same answers from nats-server and midge, and from nats-server twice."""

import pytest
from support.broker import Broker
from support.jetstream_replay import (
    SERVER_NAME,
    Asker,
    explain,
    first_difference,
    prefix_of,
    reading_steps,
    record,
)

SEEDS = (1, 2, 3)
# This one leaves no stream that refuses new messages and has more than it may: nats-server drops some of its
# messages when it starts, and midge keeps them.
RESTART_SEED = 4
MESSAGES_READ = 15  # Of each stream.


def open_asker(kind, directory):
    return Asker(Broker(kind, directory, jetstream=True, server_name=SERVER_NAME))


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    asker = open_asker("nats-server", tmp_path_factory.mktemp("oracle"))
    yield asker
    asker.stop()


@pytest.fixture(scope="module")
def recorded(oracle, request):
    """The steps and the oracle's answers by seed, made once for all brokers that are compared."""
    count = request.config.getoption("--differential-steps")
    runs = {}
    for seed in SEEDS:
        runs[seed] = record(oracle, seed, count)
        oracle.delete_streams()
    return runs


@pytest.fixture(scope="module")
def asker(kind, tmp_path_factory):
    asker = open_asker(kind, tmp_path_factory.mktemp(kind))
    yield asker
    asker.stop()


@pytest.mark.servers("nats-server", "midge-1", "midge-2", "midge-4")
@pytest.mark.parametrize("seed", SEEDS)
def test_answers_are_those_of_nats_server(recorded, oracle, asker, seed):
    steps, expected = recorded[seed]
    transcript = asker.run(steps, prefix_of(seed))
    index = first_difference(expected, transcript)
    assert index is None, (
        f"step {index} of seed {seed}: {expected[index]}\nagainst {transcript[index]}\n"
        + explain(oracle, asker, steps, index)
    )


@pytest.mark.servers("nats-server", "midge-1", "midge-2", "midge-4")
def test_streams_are_the_same_after_a_restart(kind, tmp_path, request):
    count = request.config.getoption("--differential-steps")
    askers = oracle, asker = open_asker("nats-server", tmp_path / "oracle"), open_asker(kind, tmp_path / "it")
    prefix = prefix_of(RESTART_SEED)
    try:
        steps, expected = record(oracle, RESTART_SEED, count)
        assert asker.ask_all(steps, prefix) == expected
        reading = reading_steps(steps, MESSAGES_READ)
        for one in askers:
            one.restart()
        for step in reading:
            assert asker.ask(step, prefix)[0] == oracle.ask(step, prefix)[0], step
    finally:
        for one in askers:
            one.stop()
