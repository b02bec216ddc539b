"""The same random requests get the same answers from nats-server and midge, and from nats-server twice."""

import pytest
from support.broker import Broker
from support.jetstream_replay import SERVER_NAME, Asker, explain, first_difference, prefix_of, record

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    broker = Broker("nats-server", tmp_path_factory.mktemp("oracle"), jetstream=True, server_name=SERVER_NAME)
    asker = Asker(broker)
    yield asker
    asker.close()
    broker.stop()


@pytest.fixture(scope="module")
def recorded(oracle, request):
    """The steps and the oracle's answers by seed, made once for all brokers that are compared."""
    count = request.config.getoption("--differential-steps")
    return {seed: record(oracle, seed, count) for seed in SEEDS}


@pytest.fixture(scope="module")
def asker(kind, tmp_path_factory):
    broker = Broker(kind, tmp_path_factory.mktemp(kind), jetstream=True, server_name=SERVER_NAME)
    asker = Asker(broker)
    yield asker
    asker.close()
    broker.stop()


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
