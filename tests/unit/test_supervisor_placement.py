"""Slots are spread evenly, stay where they are when they can, and are the same on every start."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.placement import SLOT_COUNT, WORKERS_MAX, owner_table, slot_owner

worker_counts = st.integers(1, WORKERS_MAX)


@settings(max_examples=25, deadline=None)
@given(worker_counts)
def test_every_slot_has_one_of_the_workers(worker_count: int) -> None:
    table = owner_table(worker_count)
    assert len(table) == SLOT_COUNT
    assert set(table) <= set(range(worker_count))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, WORKERS_MAX - 1))
def test_added_worker_takes_slots_and_no_other_slot_moves(worker_count: int) -> None:
    before, after = owner_table(worker_count), owner_table(worker_count + 1)
    moved = [slot for slot in range(SLOT_COUNT) if before[slot] != after[slot]]
    assert all(after[slot] == worker_count for slot in moved)
    # One part in worker_count + 1 is expected; the bound is five standard deviations of a fair draw.
    share = SLOT_COUNT / (worker_count + 1)
    assert abs(len(moved) - share) <= 5 * share**0.5


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 16))
def test_workers_own_about_as_many_slots_each(worker_count: int) -> None:
    share = SLOT_COUNT / worker_count
    owned = Counter(owner_table(worker_count))
    assert all(abs(owned[worker] - share) <= 5 * share**0.5 for worker in range(worker_count))


def test_table_never_changes() -> None:
    """Streams on disk belong to the worker that the table names: another hash would move them all."""
    assert [slot_owner(slot, 4) for slot in range(16)] == EXPECTED_FIRST_SLOTS


EXPECTED_FIRST_SLOTS = [1, 1, 3, 2, 2, 3, 2, 1, 1, 2, 0, 0, 1, 0, 1, 2]
