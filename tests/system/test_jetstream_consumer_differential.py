"""Random doings with consumers come out the same at nats-server and midge.

`--differential-seeds 100` goes on for longer. A failure ends with few steps, for replay() to run again.
"""

import pytest
from support.broker import Broker
from support.jetstream_consumer_replay import ConsumerAsker, Pair
from support.jetstream_replay import SERVER_NAME

STEPS = 100
FIRST_SEED = 1


def open_asker(kind, directory):
    return ConsumerAsker(Broker(kind, directory, jetstream=True, server_name=SERVER_NAME))


@pytest.fixture
def pair(kind, tmp_path):
    askers = [open_asker("nats-server", tmp_path / "oracle"), open_asker(kind, tmp_path / "it")]
    yield Pair(*askers)
    for asker in askers:
        asker.stop()


@pytest.mark.servers("midge-1", "midge-2")
def test_consumers_do_what_those_of_nats_server_do(pair, request):
    for seed in range(FIRST_SEED, FIRST_SEED + request.config.getoption("--differential-seeds")):
        steps, difference = pair.search(seed, STEPS)
        assert not difference, f"seed {seed}: {pair.explain(steps, difference)}"
