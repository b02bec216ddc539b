"""Going through the messages of a filter, and counting them, against a plain list; work that is counted."""

import random
from fnmatch import fnmatchcase

import pytest

from storage import queries
from storage.limits import StreamLimits
from storage.memory import memory_stream
from storage.queries import Matches
from storage.stream import StreamStore
from storage.subjects import SubjectFilter

NOW_NS = 1_700_000_000_000_000_000
MILLION = 1_000_000
BATCH = 10_000
LITERAL, WILDCARD, TWO = (b"orders.77.new",), (b"orders.77.*",), (b"orders.77.new", b"orders.*.old")


def stream_of(subjects: list[bytes]) -> StreamStore:
    store = memory_stream(StreamLimits())
    for start in range(0, len(subjects), BATCH):
        store.append_batch([(subject, b"", b"") for subject in subjects[start : start + BATCH]], NOW_NS)
    return store


def walk(matches: Matches, start: int = 1) -> list[int]:
    found = []
    while (sequence := matches.find_next(start)) is not None:
        found.append(sequence)
        start = sequence + 1
    return found


@pytest.fixture(scope="module")
def million() -> StreamStore:
    """A million messages, of which 1 in 10,000 is of orders.77.new; three of those are deleted."""
    store = stream_of([b"orders.%d.new" % (number % 10_000) for number in range(MILLION)])
    for sequence in (78, 500_078, 990_078):
        assert store.delete(sequence)
    return store


@pytest.mark.parametrize("patterns", [LITERAL, WILDCARD, TWO])
def test_sparse_matches_of_a_million_are_found_at_once(
    million: StreamStore, patterns: tuple[bytes, ...]
) -> None:
    wanted = [number for number in range(78, MILLION, 10_000) if number not in (78, 500_078, 990_078)]
    subjects = SubjectFilter(million.subjects, patterns)
    matches = Matches(million, subjects)
    assert walk(matches) == wanted
    assert matches.times_ahead == 1
    assert queries.count_pending(million, subjects, 1) == len(wanted) == 97
    for start in (2, 10_079, 400_000, 999_999, MILLION, MILLION + 1):
        assert queries.count_pending(million, subjects, start) == sum(one >= start for one in wanted)


def test_what_goes_and_comes_behind_the_reader_counts(million: StreamStore) -> None:
    matches = Matches(million, SubjectFilter(million.subjects, LITERAL))
    assert matches.find_next(600_000) == 600_078
    assert million.delete(610_078)
    last = million.append(b"orders.77.new", b"", b"", NOW_NS)
    assert walk(matches, 600_079)[:2] == [620_078, 630_078]
    assert matches.find_next(980_079) == last
    assert matches.find_next(1) == 10_078  # back to the beginning
    assert matches.find_next(last + 1) is None
    assert million.delete(last)


def test_dense_matches_are_not_found_ahead(million: StreamStore) -> None:
    for patterns in (b"orders.>", b">"):
        matches = Matches(million, SubjectFilter(million.subjects, (patterns,)))
        assert len(walk(matches, MILLION - 100)) == 101
        assert matches.times_ahead == 0


@pytest.mark.parametrize("seed", range(6))
def test_searches_and_counts_are_those_of_a_plain_list(seed: int) -> None:
    dice = random.Random(seed)
    rare = [b"rare.%d" % number for number in range(3)]
    common = [b"common.%d.a" % number for number in range(dice.choice((1, 7000)))]
    log = [dice.choice(rare if dice.random() < 0.002 else common) for _ in range(30_000)]
    store = stream_of(log)
    alive = dict(enumerate(log, 1))

    def change() -> None:
        for sequence in dice.sample(sorted(alive), 200):
            assert store.delete(sequence)
            del alive[sequence]
        for _ in range(dice.randrange(60)):
            subject = dice.choice((*rare, *common[:2], b"new.%d" % dice.randrange(5)))
            alive[store.append(subject, b"", b"", NOW_NS)] = subject

    filters = [(b">",), (rare[0],), (b"rare.*",), (b"common.>",), (common[0],), (rare[1], b"new.>"), (b"x",)]
    readers = [(patterns, SubjectFilter(store.subjects, patterns)) for patterns in filters]
    walkers = [Matches(store, subjects) for _, subjects in readers]
    for _ in range(4):
        for (patterns, subjects), matches in zip(readers, walkers, strict=True):
            globs = [pattern.decode().replace(">", "*") for pattern in patterns]
            wanted = [
                sequence
                for sequence, subject in sorted(alive.items())
                if any(fnmatchcase(subject.decode(), glob) for glob in globs)
            ]
            at = 0
            for start in sorted(dice.sample(range(1, store.last_sequence + 3), 40)):
                while at < len(wanted) and wanted[at] < start:
                    at += 1
                expected = wanted[at] if at < len(wanted) else None
                assert matches.find_next(start) == expected, (patterns, start)
                assert queries.find_next(store, subjects, start) == expected, (patterns, start)
                assert queries.count_pending(store, subjects, start) == len(wanted) - at, (patterns, start)
        change()
