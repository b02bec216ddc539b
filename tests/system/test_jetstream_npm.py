"""The npm packages @nats-io/jetstream, kv and obj do over midge what they do over nats-server.

Each promise is a function of a script in npm/, which `run.mjs` there calls with two connections.
"""

import pytest
from support.npm import promises, run_node

pytestmark = pytest.mark.servers("midge-1", "midge-2", "midge-4", "nats-server")

FILES = ("streams", "pull_consumers", "push_consumers", "ordered_consumers", "key_value", "objects")


@pytest.mark.parametrize(
    ("file", "promise"), [(file, promise) for file in FILES for promise in promises(file)]
)
def test_promise_is_kept(jetstream_server, file, promise):
    run_node("run.mjs", jetstream_server.url, file, promise)
