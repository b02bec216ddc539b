"""Any order of puts, gets and expiries gives what a dictionary of (sequence, time) gives."""

from hypothesis import given, settings
from hypothesis import strategies as st

from workers.jetstream.dedup import DedupTable

WINDOW_NS = 60
IDS = st.one_of(
    st.integers(0, 40).map(lambda number: b"%d" % number),
    st.integers(0, 5000).map(lambda number: b"%036d" % number),
    st.tuples(st.integers(0, 3), st.integers(1000, 60_000)).map(lambda parts: bytes([parts[0]]) * parts[1]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), IDS, st.integers(0, 3)),
        st.tuples(st.just("many"), st.integers(0, 3000), st.integers(0, 1)),
        st.tuples(st.just("get"), IDS, st.integers(0, 30)),
        st.tuples(st.just("expire"), st.just(b""), st.integers(0, 80)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_the_table_agrees_with_a_dictionary(steps: list[tuple[str, bytes | int, int]]) -> None:
    table = DedupTable(WINDOW_NS)
    model: dict[bytes, tuple[int, int]] = {}
    now = sequence = 0

    def put(id: bytes) -> None:
        nonlocal sequence
        sequence += 1
        table.put(id, sequence, now)
        model[id] = (sequence, now)

    for kind, value, passes in steps:
        now += passes
        if kind == "many":
            for number in range(value, value + 300):
                put(b"many-%d" % number)
        elif kind == "put":
            put(value)
        elif kind == "expire":
            table.expire(now)
        for id in (value,) if kind == "get" else list(model)[-50:]:
            found, stored = model.get(id, (0, 0))
            assert table.get(id, now) == (found if now - stored < WINDOW_NS else 0)
    for id, (found, stored) in model.items():
        assert table.get(id, now) == (found if now - stored < WINDOW_NS else 0)
