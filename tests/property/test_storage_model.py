"""Both stores do what the plain model does, under random operations."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from support.faulty_files import RecordingFiles
from support.storage_model import Pair, StreamModel, assert_same

from storage.limits import StreamLimits
from storage.memory import memory_stream
from storage.store import Store, StoreConfig

SMALL = StoreConfig(
    journal_file_bytes=64 << 10,
    checkpoint_stream_bytes=0,
    checkpoint_bytes=32 << 10,
    flush_bytes=600,
    columns_ticks=0,
    open_files_max=3,
)
limits = st.sampled_from(
    [
        StreamLimits(segment_bytes=2000),
        StreamLimits(segment_bytes=700, max_messages=20),
        StreamLimits(segment_bytes=4000, max_messages_per_subject=2),
        StreamLimits(segment_bytes=1000, max_bytes=1500, discard_new=True),
        StreamLimits(segment_bytes=1000, max_age_ns=40),
        StreamLimits(
            segment_bytes=1000,
            max_messages_per_subject=3,
            discard_new=True,
            discard_new_per_subject=True,
            max_messages=9,
        ),
    ]
)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), limit=limits, steps=st.integers(5, 120))
def test_a_memory_stream_does_what_the_model_does(seed: int, limit: StreamLimits, steps: int) -> None:
    pair = Pair(memory_stream(limit), StreamModel(limit, is_memory=True), Random(seed))
    for _ in range(steps):
        pair.step()
    pair.compare()


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), limit=limits, steps=st.integers(5, 120))
def test_a_file_stream_does_what_the_model_does_and_is_the_same_after_reopening(
    seed: int, limit: StreamLimits, steps: int
) -> None:
    rng = Random(seed)
    files = RecordingFiles()
    store = Store(files, config=SMALL, rng=Random(seed), threaded=False)
    directory = store.create_stream("s", limits=limit)
    pair = Pair(directory.stream, StreamModel(limit), rng)
    pair.update = lambda changed: store.update_stream("s", b"", changed)
    for _ in range(steps):
        pair.step()
        if rng.random() < 0.3:
            store.wait(store.commit())
        if rng.random() < 0.05:
            store.housekeeping()
        if rng.random() < 0.03:
            store.close()
            store = Store(files, config=SMALL, rng=Random(seed), threaded=False)
            directory = store.streams["s"]
            pair.stream = directory.stream
            assert_same(pair.stream, pair.model)
    pair.compare()
    assert store.reports == []
