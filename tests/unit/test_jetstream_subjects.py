"""Subjects of configurations: valid, literal, matching, overlapping."""

import itertools

import pytest

from workers.jetstream import subjects

TOKENS = ("a", "b", "*", ">")
PATTERNS = [
    ".".join(tokens)
    for count in (1, 2, 3)
    for tokens in itertools.product(TOKENS, repeat=count)
    if ">" not in tokens[:-1]
]
LITERALS = [".".join(tokens) for count in (1, 2, 3, 4) for tokens in itertools.product("ab", repeat=count)]


def match_model(pattern, subject):
    """The definition: token by token, `>` takes one or more."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(tokens) >= len(wanted) and all(
            one in ("*", token) for one, token in zip(wanted[:-1], tokens, strict=False)
        )
    return len(tokens) == len(wanted) and all(
        one in ("*", token) for one, token in zip(wanted, tokens, strict=True)
    )


@pytest.mark.parametrize(
    ("subject", "is_valid"),
    [
        ("a", True),
        ("a.b.c", True),
        ("a.*.c", True),
        ("a.>", True),
        (">", True),
        ("a*.>b", True),
        ("é.\x01", True),
        ("", False),
        (".", False),
        ("a.", False),
        (".a", False),
        ("a..b", False),
        (">.a", False),
        ("a.>.b", False),
        ("a b", False),
        ("a.\t", False),
        ("a\r\n", False),
        ("a\f.b", False),
    ],
)
def test_valid_subject_has_no_empty_token_and_no_white_space(subject, is_valid):
    assert subjects.is_valid_subject(subject) is is_valid


@pytest.mark.parametrize(
    ("subject", "is_literal"),
    [("a.b", True), ("a*.b>", True), ("a.*", False), ("*", False), (">", False), ("a.>", False)],
)
def test_literal_subject_has_no_wildcard_token(subject, is_literal):
    assert subjects.is_literal(subject) is is_literal
    assert subjects.is_valid_literal(subject) is is_literal


def test_literal_must_be_valid_to_be_published_to():
    assert not subjects.is_valid_literal("a..b")


def test_tokens_are_what_dots_separate():
    assert subjects.tokens("a.b.>") == ["a", "b", ">"]
    assert subjects.tokens("") == [""]


def test_literals_match_patterns_by_definition():
    for pattern in PATTERNS:
        for literal in LITERALS:
            assert subjects.matches(pattern, literal) == match_model(pattern, literal), (pattern, literal)


def test_subset_is_matched_wherever_it_matches():
    for one, other in itertools.product(PATTERNS, repeat=2):
        if subjects.is_subset(one, other):
            assert all(match_model(other, literal) for literal in LITERALS if match_model(one, literal))


def test_patterns_collide_when_some_literal_matches_both():
    for one, other in itertools.product(PATTERNS, repeat=2):
        meets = any(match_model(one, literal) and match_model(other, literal) for literal in LITERALS)
        assert subjects.collides(one, other) == meets, (one, other)


def test_token_that_begins_with_a_star_meets_everything():
    """An odd corner of nats-server, kept."""
    assert subjects.collides("x.*a", "x.*")
    assert subjects.collides("*.*a", "x.*")
    assert not subjects.collides("x.*a", "x.b")


def test_lists_overlap_when_any_two_collide():
    assert subjects.overlap(("a", "b.*"), ("c", "b.x"))
    assert not subjects.overlap(("a", "b.*"), ("c", "b"))
    assert not subjects.overlap((), ("a",))
