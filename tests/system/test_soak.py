"""Random traffic over all workers is delivered exactly as a model says: count, order per publisher, bytes.

`pytest tests/system/test_soak.py --soak-messages 10000000` runs the long form, which takes some minutes.
"""

import pytest
from support.soak_model import Soak

SEED = 2


@pytest.mark.servers("midge-4", "nats-server")
def test_random_traffic_is_delivered_exactly_as_the_model_says(server, request):
    count = request.config.getoption("--soak-messages")
    soak = Soak(server.port, SEED)
    try:
        soak.run(count)
    finally:
        soak.close()
    assert soak.published >= count
    assert soak.delivered > soak.published
