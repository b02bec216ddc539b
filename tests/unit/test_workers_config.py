"""What the supervisor tells a worker arrives as it was."""

import json

import pytest
from support.planes import worker_config

from workers.config import WorkerConfig


def test_settings_survive_the_way_through_json() -> None:
    config = worker_config(
        index=1, worker_count=3, ring_epochs=[[0, 1, 2]] * 3, user="ü", connect_urls=["a:1"]
    )
    assert WorkerConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="unknown worker settings: newer, other"):
        WorkerConfig.from_json({**worker_config().to_json(), "other": 1, "newer": 2})


def test_missing_setting_is_refused() -> None:
    values = worker_config().to_json()
    del values["port"]
    with pytest.raises(TypeError, match="port"):
        WorkerConfig.from_json(values)
