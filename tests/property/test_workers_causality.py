"""Whatever the order in which workers run, and however small their rings, their promises hold."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.planes import mesh
from support.planes_traffic import Traffic

# Bytes of data and control rings: from rings that hold a few frames, so that everything waits and large
# messages come in fragments, to rings that hold a whole block.
RINGS = [(256, 256), (256, 65536), (1024, 256), (4096, 1024), (65536, 1024), (1 << 20, 1 << 18)]


def play(seed: int, workers: int, rings: tuple[int, int], *, steps: int, kills: int = 0) -> None:
    data_ring_bytes, control_ring_bytes = rings
    with mesh(
        workers,
        data_ring_bytes=data_ring_bytes,
        control_ring_bytes=control_ring_bytes,
        max_pending=1 << 40,  # nobody is too slow
        log_trace=True,
    ) as planes:
        large = min(100 * data_ring_bytes, 40_000)
        Traffic(planes, Random(seed), payload_bytes_max=large, kills=kills).run(steps)


@given(seed=st.integers(0, 1 << 64), workers=st.integers(1, 3), rings=st.sampled_from(RINGS))
@settings(max_examples=80, deadline=None)
def test_confirmed_interest_is_seen_by_every_later_message(
    seed: int, workers: int, rings: tuple[int, int]
) -> None:
    play(seed, workers, rings, steps=300)


@given(seed=st.integers(0, 1 << 64), workers=st.integers(2, 3), rings=st.sampled_from(RINGS))
@settings(max_examples=50, deadline=None)
def test_death_of_a_worker_costs_the_others_nothing(seed: int, workers: int, rings: tuple[int, int]) -> None:
    play(seed, workers, rings, steps=300, kills=3)


@pytest.mark.parametrize("rings", RINGS)
def test_long_schedule_comes_to_rest(rings: tuple[int, int]) -> None:
    play(1, 3, rings, steps=3000)
