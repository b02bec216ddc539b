"""Consumers keep what they promise while workers and the whole server are killed, as a model says.

`pytest tests/faults/test_jetstream_consumers.py --consumer-steps 6000 --consumer-seed 7` goes on for longer.
The seed also says which retention goes with which number of workers: three in a row have all combinations.
"""

import pytest
from support.jetstream_consumer_faults import ConsumerFaults

STEPS_PER_KILL = 100
KINDS = ("midge-1", "midge-2", "midge-4")
RETENTIONS = ("limits", "interest", "workqueue")


@pytest.mark.servers(*KINDS)
def test_consumers_lose_nothing_and_repeat_nothing_acknowledged(start, kind, request):
    seed = request.config.getoption("--consumer-seed")
    retention = RETENTIONS[(seed + KINDS.index(kind)) % len(RETENTIONS)]
    it = ConsumerFaults(start(jetstream=True), seed, retention)
    try:
        for number in range(1, 1 + request.config.getoption("--consumer-steps")):
            it.step()
            if number % STEPS_PER_KILL == 0:
                it.kill()
        it.drain()
    finally:
        it.close()
