"""Publishing into streams: the same messages get the same answers from nats-server, byte for byte, and leave
the same stream behind.

Each script runs against nats-server and against the Publisher, once as it is and once inside the broker. The
tables hold what is sent; what must come is asked of nats-server and not written down here.
"""

import itertools
from collections.abc import Iterator

import pytest
from support.batch_scripts import BATCH, FAST
from support.broker import Broker
from support.jetstream_publishes import BrokerRunner, PublisherRunner, Runner
from support.publish_scripts import SCHEDULE, SINGLE

pytestmark = pytest.mark.servers("midge-1", "midge-2")

_names = (f"PUBLISH{number}" for number in itertools.count())

SCRIPTS = {**SINGLE, **SCHEDULE, **BATCH, **FAST}


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerRunner]:
    broker = Broker("nats-server", tmp_path_factory.mktemp("oracle"), jetstream=True)
    runner = BrokerRunner(broker)
    yield runner
    runner.close()
    broker.stop()


@pytest.fixture(scope="module")
def tested(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerRunner]:
    broker = Broker(kind, tmp_path_factory.mktemp(kind), jetstream=True)
    runner = BrokerRunner(broker)
    yield runner
    runner.close()
    broker.stop()


def compare(tested: Runner, oracle: Runner, storage: str, name: str) -> None:
    """Run a script on both with a stream of the same name."""
    config, script = SCRIPTS[name]
    stream = next(_names)
    expected = oracle.run(stream, {"storage": storage, **config}, script)
    found = tested.run(stream, {"storage": storage, **config}, script)
    assert found.answers == expected.answers
    assert found.stored == expected.stored
    assert found.state == expected.state
    assert found.copies == expected.copies


@pytest.mark.servers("nats-server")
@pytest.mark.parametrize("storage", ["file", "memory"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_publisher_answers_as_nats_server_does(
    kind: str, oracle: BrokerRunner, storage: str, name: str
) -> None:
    compare(PublisherRunner(oracle), oracle, storage, name)


@pytest.mark.parametrize("storage", ["file", "memory"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_broker_answers_as_nats_server_does(
    tested: BrokerRunner, oracle: BrokerRunner, storage: str, name: str
) -> None:
    compare(tested, oracle, storage, name)
