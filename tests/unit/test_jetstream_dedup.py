"""Message ids are found within their window, forgotten after it, and cost little memory."""

import pytest

from workers.jetstream.dedup import DedupTable

WINDOW_NS = 1000


def test_an_unknown_id_has_no_sequence() -> None:
    table = DedupTable(WINDOW_NS)
    assert table.get(b"a", 0) == 0
    table.put(b"a", 1, 0)
    assert table.get(b"b", 0) == 0
    assert table.get(b"", 0) == 0


def test_an_id_is_found_until_its_window_is_over() -> None:
    table = DedupTable(WINDOW_NS)
    table.put(b"a", 7, 100)
    assert table.get(b"a", 100) == 7
    assert table.get(b"a", 100 + WINDOW_NS - 1) == 7
    assert table.get(b"a", 100 + WINDOW_NS) == 0


def test_an_id_that_comes_again_after_its_window_counts_from_then() -> None:
    table = DedupTable(WINDOW_NS)
    table.put(b"a", 1, 0)
    table.put(b"b", 2, 10)
    table.put(b"a", 3, WINDOW_NS)
    assert table.get(b"a", WINDOW_NS + 500) == 3
    table.expire(WINDOW_NS + 500)
    assert table.get(b"a", WINDOW_NS + 500) == 3
    assert len(table) == 1


def test_expire_forgets_all_but_the_newest() -> None:
    table = DedupTable(WINDOW_NS)
    for index in range(100):
        table.put(b"id-%d" % index, index + 1, index)
    assert table.expire(50 + WINDOW_NS) == 51
    assert table.expire(10 * WINDOW_NS) == 48
    assert table.newest() == (100, b"id-99")
    assert table.get(b"id-99", 10 * WINDOW_NS) == 0


def test_newest_tells_the_last_id() -> None:
    table = DedupTable(WINDOW_NS)
    assert table.newest() == (0, b"")
    table.put(b"a", 1, 0)
    table.put(b"b", 5, 0)
    assert table.newest() == (5, b"b")


def test_a_window_of_zero_keeps_nothing() -> None:
    table = DedupTable(0)
    table.put(b"a", 1, 0)
    assert len(table) == 0
    assert table.get(b"a", 0) == 0


def test_a_shorter_window_counts_for_ids_that_are_there() -> None:
    table = DedupTable(WINDOW_NS)
    table.put(b"a", 1, 0)
    table.set_window(10)
    assert table.get(b"a", 9) == 1
    assert table.get(b"a", 10) == 0


def test_an_id_may_be_as_long_as_a_header_block() -> None:
    table = DedupTable(WINDOW_NS)
    longest = bytes(65535)
    for index in range(20):
        table.put(longest[:-1] + bytes([index]), index + 1, 0)
    assert [table.get(longest[:-1] + bytes([index]), 0) for index in range(20)] == list(range(1, 21))
    with pytest.raises(ValueError, match="65536"):
        table.put(longest + b"x", 1, 0)


def test_memory_is_given_back_behind_the_window() -> None:
    """Ten windows full of ids take no more than two of them."""
    table = DedupTable(WINDOW_NS)
    for index in range(100_000):
        table.put(b"%036d" % index, index + 1, index // 10)
    stats = table.stats()
    assert stats["ids"] == 10_000
    assert stats["bytes"] <= 2 * 256 * 1024 + 10_000 * 56
    assert stats["slots"] <= 6 * 10_000


def test_what_was_there_at_the_start_is_loaded_by_the_first_use() -> None:
    calls = []

    def load(table: DedupTable) -> None:
        calls.append(len(table))
        table.put(b"old", 3, 0)

    table = DedupTable(WINDOW_NS, load)
    assert table.expire(0) == 0
    assert calls == []
    assert table.get(b"old", 1) == 3
    table.put(b"new", 4, 1)
    assert (calls, len(table)) == ([0], 2)
