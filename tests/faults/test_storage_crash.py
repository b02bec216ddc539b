"""Power cuts: whatever the disk kept of the unsynced writes, a reopened store is one that was there, and not
too old a one.

Every history is a seeded mixture of all operations on several streams and consumers; after each commit the
model is copied. A cut anywhere in the trace of writes must reopen as one of the copies between the last
acknowledged round and the last one attempted. MIDGE_CRASH_HISTORIES and MIDGE_CRASH_CUTS ask for more than
CI does.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from support.faulty_files import RecordingFiles
from support.storage_model import Pair, StreamModel, contents

from storage.limits import StreamLimits
from storage.store import Store, StoreConfig

HISTORIES = int(os.environ.get("MIDGE_CRASH_HISTORIES", "90"))
CUTS = int(os.environ.get("MIDGE_CRASH_CUTS", "130"))
CONFIG = StoreConfig(
    journal_file_bytes=48 << 10,
    checkpoint_bytes=30 << 10,
    checkpoint_stream_bytes=1000,
    flush_bytes=700,
    columns_ticks=0,
    open_files_max=4,
    compact_fraction=0.8,
)

Snapshot = dict[str, tuple[StreamModel, dict[str, object]]]


@dataclass
class History:
    """A store, its models, and what was true when."""

    rng: Random
    files: RecordingFiles
    store: Store
    pairs: dict[str, Pair] = field(default_factory=dict)
    # Copies of the models by round, and for each round the length of the trace when it was acknowledged.
    rounds: dict[int, Snapshot] = field(default_factory=dict)
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    created: int = 0

    def go_on_from(self, snapshot: Snapshot) -> None:
        """Begin with a store that recovery opened and what it was found to be."""
        self.rounds[0] = snapshot
        for name, (model, _) in snapshot.items():
            self.created = max(self.created, int(name[1:]) + 1)
            self.add(name, model.copy())

    def create(self) -> None:
        name = f"s{self.created}"
        self.created += 1
        limits = StreamLimits(
            segment_bytes=self.rng.choice((600, 1500, 5000)),
            max_messages_per_subject=self.rng.choice((-1, -1, 1, 3)),
            max_messages=self.rng.choice((-1, -1, 25)),
        )
        self.store.create_stream(name, name.encode(), limits=limits)
        self.add(name, StreamModel(limits))

    def add(self, name: str, model: StreamModel) -> None:
        pair = Pair(self.store.streams[name].stream, model, self.rng, max(1000, model.last_ts_ns))
        pair.update = lambda changed: self.store.update_stream(name, name.encode(), changed)
        self.pairs[name] = pair

    def consume(self, name: str) -> None:
        """Do something with a consumer of a stream."""
        rng, control = self.rng, self.store.streams[name].control
        consumer = control.consumers.get("c")
        if consumer is None:
            control.add_consumer("c", rng.choice((0, 1, 2)), b"definition")
        elif rng.random() < 0.05:
            control.remove_consumer("c")
        elif consumer.pending and rng.random() < 0.5:
            sequence = rng.choice(list(consumer.pending))
            consumer.ack(consumer.pending[sequence][0], sequence)
        else:
            consumer.delivered(
                consumer.delivered_consumer + 1, consumer.delivered_stream + 1, 1, rng.randrange(99)
            )

    def snapshot(self) -> Snapshot:
        return {
            name: (
                pair.model.copy(),
                {key: one.state() for key, one in self.store.streams[name].control.consumers.items()},
            )
            for name, pair in self.pairs.items()
        }

    def commit(self) -> None:
        while self.store.journal.in_flight:
            self.note()
        self.rounds[self.store.commit()] = self.snapshot()
        self.note()

    def note(self) -> None:
        durable = self.store.poll()
        self.acknowledged.append((len(self.files.trace), durable))

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
        self.commit()
        self.store.wait(self.store.commit())
        self.note()

    def step(self) -> None:
        rng = self.rng
        dice = rng.random()
        name = rng.choice(list(self.pairs))
        if dice < 0.6:
            self.pairs[name].step()
        elif dice < 0.7:
            self.consume(name)
        elif dice < 0.9:
            self.commit()
        elif dice < 0.95:
            self.commit()
            self.store.wait(self.store.durable_round)
            self.note()
        elif dice < 0.97:
            self.commit()
            self.store.housekeeping()
            self.note()
        elif dice < 0.985 and len(self.pairs) < 4:
            self.create()
        elif len(self.pairs) > 1:
            self.store.delete_stream(name)
            del self.pairs[name]


def run_history(seed: int, steps: int = 160, config: StoreConfig = CONFIG) -> History:
    rng = Random(seed)
    files = RecordingFiles()
    history = History(rng, files, Store(files, config=config, rng=Random(seed), threaded=False))
    history.rounds[0] = {}
    history.create()
    history.run(steps)
    return history


def store_state(store: Store) -> dict[str, tuple[object, ...]]:
    return {
        name: (
            directory.stream.limits,
            directory.stream.state(),
            contents(directory.stream),
            {key: one.state() for key, one in directory.control.consumers.items()},
        )
        for name, directory in store.streams.items()
    }


def model_state(snapshot: Snapshot) -> dict[str, tuple[object, ...]]:
    return {
        name: (
            model.limits,
            model.state(),
            {
                sequence: (one.timestamp_ns, one.subject, one.headers, one.payload)
                for sequence, one in model.messages.items()
            },
            consumers,
        )
        for name, (model, consumers) in snapshot.items()
    }


def allowed(history: History, cut: int) -> Iterator[Snapshot]:
    """Yield the states that a cut may reopen as: from the last one acknowledged by then to the last one
    attempted."""
    durable = max((number for length, number in history.acknowledged if length <= cut), default=0)
    return (snapshot for number, snapshot in history.rounds.items() if number >= durable)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_a_power_cut_anywhere_loses_nothing_acknowledged_and_invents_nothing(seed: int) -> None:
    history = run_history(seed)
    rng = Random(seed)
    length = len(history.files.trace)
    for cut in sorted(rng.sample(range(length + 1), min(CUTS, length + 1))):
        crashed = history.files.crash(cut, rng)
        store = Store(crashed, config=CONFIG, rng=Random(1), threaded=False)
        got = store_state(store)
        assert any(got == model_state(snapshot) for snapshot in allowed(history, cut)), (
            f"seed {seed}, cut {cut}"
        )
        if rng.random() < 0.1:
            # A second cut, during or right after that recovery, finds the same.
            again = crashed.crash(rng.randrange(len(crashed.trace) + 1), rng)
            assert store_state(Store(again, config=CONFIG, rng=Random(2), threaded=False)) == got, (
                f"cut {cut} twice"
            )


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_power_cuts_after_a_recovery_and_more_work_lose_nothing_either(seed: int) -> None:
    history = run_history(seed, steps=60)
    rng = Random(seed)
    for generation in range(3):
        cut = rng.randrange(len(history.files.trace) // 2, len(history.files.trace) + 1)
        files = history.files.crash(cut, rng)
        store = Store(files, config=CONFIG, rng=Random(generation), threaded=False)
        got = store_state(store)
        found = next((one for one in allowed(history, cut) if got == model_state(one)), None)
        assert found is not None, f"seed {seed}, generation {generation}, cut {cut}"
        history = History(rng, files, store)
        history.go_on_from(found)
        if not found:
            history.create()
        history.run(30)


@pytest.mark.parametrize("seed", range(0, HISTORIES, 3))
def test_without_syncs_a_killed_process_loses_nothing_acknowledged(seed: int) -> None:
    config = replace(CONFIG, sync_interval_ns=10**18)
    history = run_history(seed, config=config)
    rng = Random(seed)
    length = len(history.files.trace)
    for cut in sorted(rng.sample(range(length + 1), min(CUTS // 3, length + 1))):
        killed = history.files.killed(cut)
        got = store_state(Store(killed, config=config, rng=Random(1), threaded=False))
        assert any(got == model_state(snapshot) for snapshot in allowed(history, cut)), (
            f"seed {seed}, cut {cut}"
        )


def test_without_syncs_a_small_commit_counts_at_once() -> None:
    files = RecordingFiles()
    config = replace(CONFIG, sync_interval_ns=10**18, journal_file_bytes=1 << 20)
    store = Store(files, config=config, rng=Random(1), threaded=False)
    told: list[int] = []
    store.on_durable = told.append
    stream = store.create_stream("s").stream
    store.wait(store.commit())
    for index in range(20):
        stream.append(b"a", b"", b"payload", index)
        round_number = store.commit()
        assert store.durable_round == round_number == told[-1]
    syncs = sum(operation.kind == "fdatasync" for operation in files.trace)
    store.poll()
    assert sum(operation.kind == "fdatasync" for operation in files.trace) == syncs
