"""Which subscriptions a published subject meets."""

import pytest

from workers.sublist_probe import Sublist, heap_bytes, kind_of


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (b"foo", "literal"),
        (b"foo.bar.baz", "literal"),
        (b"*", "wildcard"),
        (b">", "wildcard"),
        (b"foo.*", "wildcard"),
        (b"*.bar", "wildcard"),
        (b"foo.>", "wildcard"),
        (b"foo.*.>", "wildcard"),
        (b"foo*", "literal"),
        (b"*foo.>bar", "literal"),
        (b"foo.**", "literal"),
        (b"foo.>>", "literal"),
        (b"\x00\xff.\x01", "literal"),
        (b"", "invalid"),
        (b".", "invalid"),
        (b".foo", "invalid"),
        (b"foo.", "invalid"),
        (b"foo..bar", "invalid"),
        (b">.foo", "invalid"),
        (b"foo.>.bar", "invalid"),
    ],
)
def test_kinds_of_subjects(subject: bytes, expected: str) -> None:
    assert kind_of(subject) == expected


@pytest.mark.parametrize(
    ("pattern", "meets", "misses"),
    [
        (b"foo", [b"foo"], [b"fo", b"fooo", b"FOO", b"foo.bar", b"bar"]),
        (b"foo.*", [b"foo.bar", b"foo.*", b"foo.>"], [b"foo", b"foo.bar.baz", b"fo.bar"]),
        (b"*.bar", [b"foo.bar", b"*.bar"], [b"bar", b"foo.baz", b"a.foo.bar"]),
        (b"foo.>", [b"foo.bar", b"foo.bar.baz", b"foo.*"], [b"foo", b"fo.bar"]),
        (b">", [b"foo", b"foo.bar", b"*"], [b""]),
        (b"*", [b"foo", b">"], [b"foo.bar"]),
        (b"*.*.>", [b"a.b.c", b"a.b.c.d"], [b"a.b"]),
        (b"foo*", [b"foo*"], [b"food", b"foo"]),
        (b"a.*.c", [b"a.b.c", b"a.*.c"], [b"a.b.d", b"a.c", b"a.b.c.d"]),
    ],
)
def test_pattern_meets_subjects(pattern: bytes, meets: list[bytes], misses: list[bytes]) -> None:
    sublist = Sublist()
    sublist.insert(1, pattern)
    assert [sublist.match(subject)[0] for subject in meets] == [[1]] * len(meets)
    assert [sublist.match(subject)[0] for subject in misses] == [[]] * len(misses)


@pytest.mark.parametrize("subject", [b"", b".", b"foo.", b".foo", b"foo..bar"])
def test_subject_with_an_empty_token_meets_nothing(subject: bytes) -> None:
    sublist = Sublist()
    for number, pattern in enumerate((b">", b"*", b"foo.>", b"*.*", b"foo.*", b"foo.*.bar", b"foo")):
        sublist.insert(number, pattern)
    assert sublist.match(subject) == ([], {}, set(), {})


def test_published_wildcards_are_literal_tokens() -> None:
    sublist = Sublist()
    for number, pattern in enumerate((b"foo.*", b"foo.bar", b"foo.>", b">", b"*.*")):
        sublist.insert(number, pattern)
    assert sublist.match(b"foo.*")[0] == [0, 2, 3, 4]
    assert sublist.match(b"foo.>")[0] == [0, 2, 3, 4]


def test_queue_groups_are_found_over_all_subjects_of_their_name() -> None:
    sublist = Sublist()
    sublist.insert(1, b"foo", b"q")
    sublist.insert(2, b"*", b"q")
    sublist.insert(3, b">", b"r")
    sublist.insert(4, b"foo")
    assert sublist.match(b"foo") == ([4], {b"q": [1, 2], b"r": [3]}, set(), {})


def test_other_workers_are_found_with_plain_interest_and_members() -> None:
    sublist = Sublist()
    sublist.set_remote(1, b"foo", b"", 7)
    sublist.set_remote(3, b"*", b"", 1)
    sublist.set_remote(2, b"foo", b"q", 2)
    sublist.set_remote(3, b">", b"q", 5)
    assert sublist.match(b"foo") == ([], {}, {1, 3}, {b"q": 7})
    sublist.set_remote(1, b"foo", b"", 0)
    sublist.set_remote(3, b">", b"q", 0)
    assert sublist.match(b"foo") == ([], {}, {3}, {b"q": 2})


def test_interest_of_other_workers_outlives_local_interest() -> None:
    sublist = Sublist()
    sublist.insert(1, b"foo.*")
    sublist.set_remote(1, b"foo.*", b"", 1)
    sublist.remove(1)
    assert sublist.match(b"foo.bar")[2] == {1}


def test_many_subjects_stay_findable_while_others_are_removed() -> None:
    """The table moves entries up when one is taken out."""
    sublist = Sublist()
    for number in range(20_000):
        sublist.insert(number, b"s.%d.x" % number)
    for number in range(0, 20_000, 3):
        sublist.remove(number)
    for number in range(20_000):
        assert sublist.match(b"s.%d.x" % number)[0] == ([number] if number % 3 else [])
    assert sublist.stats()["literals"] == 20_000 - len(range(0, 20_000, 3))


def test_trie_is_pruned_token_by_token() -> None:
    sublist = Sublist()
    sublist.insert(1, b"a.b.c.*.d.>")
    sublist.insert(2, b"a.b.*")
    assert sublist.stats()["nodes"] == 6
    sublist.remove(1)
    assert sublist.stats()["nodes"] == 3
    sublist.remove(2)
    assert sublist.stats() == {"literals": 0, "wildcards": 0, "nodes": 1}


def test_all_memory_is_given_back() -> None:
    def fill() -> None:
        sublist = Sublist()
        for number in range(10_000):
            sublist.insert(number, b"a.%d.b" % (number % 3000))
            sublist.insert(10_000 + number, b"a.%d.*" % (number % 3000), b"q%d" % (number % 7))
        for number in range(5_000):
            sublist.remove(number)
        sublist.set_remote(1, b"a.1.b", b"q", 3)

    fill()
    before = heap_bytes()
    for _ in range(5):
        fill()
    assert heap_bytes() - before < 100_000, "about 3 MB are in use while it is full"


def test_misuse_is_refused() -> None:
    sublist = Sublist()
    sublist.insert(1, b"foo")
    with pytest.raises(ValueError, match="cannot subscribe 1"):
        sublist.insert(1, b"bar")
    with pytest.raises(ValueError, match="cannot subscribe 2"):
        sublist.insert(2, b"foo..bar")
    with pytest.raises(KeyError):
        sublist.remove(3)
