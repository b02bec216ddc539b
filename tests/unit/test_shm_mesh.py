"""Every ordered pair of workers has one ring, numbered without gaps."""

import pytest

from shm import mesh


@pytest.mark.parametrize("worker_count", [1, 2, 3, 8])
def test_rings_are_numbered_without_gaps(worker_count: int) -> None:
    numbers = [mesh.pair_index(*pair, worker_count) for pair in mesh.pairs(worker_count)]
    assert numbers == list(range(mesh.pair_count(worker_count)))


def test_pairs_of_a_worker_are_those_that_begin_or_end_there() -> None:
    assert list(mesh.pairs_of(1, 3)) == [(0, 1), (1, 0), (1, 2), (2, 1)]


@pytest.mark.parametrize("pair", [(0, 0), (0, 3), (3, 0), (-1, 1)])
def test_no_ring_joins_a_worker_to_itself_or_to_nobody(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no ring"):
        mesh.pair_index(*pair, 3)
