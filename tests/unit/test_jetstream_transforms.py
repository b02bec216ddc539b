"""Subject transforms: what comes out, and what is refused."""

import random

import pytest

from workers.jetstream.transforms import SubjectTransform, TransformError, check_mapping, make_transform


@pytest.mark.parametrize(
    ("src", "dest", "subject", "changed"),
    [
        ("a", "b", "a", "b"),
        ("a", "b", "c", None),
        ("a.*", "b.$1", "a.x", "b.x"),
        ("a.*.*", "b.$2.$1", "a.x.y", "b.y.x"),
        ("a.*.*", "{{wildcard(2)}}.b.{{ Wildcard ( 1 ) }}", "a.x.y", "y.b.x"),
        ("a.*", "b.$x.$", "a.x", "b.$x.$"),
        ("a.*", "b.$0", "a.x", "b.a"),
        ("a.>", "b.>", "a.x.y", "b.x.y"),
        ("a.>", "b.>", "a", None),
        ("a.*.>", "$1.>", "a.x.y.z", "x.y.z"),
        (">", "p.>", "x.y", "p.x.y"),
        ("", "p.>", "x", "p.x"),
        (">", ">", "x..y", "x..y"),
        ("a.*", "b.$1", "a.*", None),
        ("a.*", "b.$1", "a.", None),
        ("*", "t.{{partition(1)}}", "x", "t.0"),
        ("*", "t.{{partition(0)}}", "x", "t.0"),
        ("*.*", "t.{{partition(10,1,2)}}", "foo.bar", "t.0"),
        ("*.*", "t.{{partition(10)}}", "foo.bar", "t.6"),
        ("foo", "t.{{partition(3,5)}}", "foo", "t.0"),
        ("*", "{{split(1,-)}}", "-a--b-c-", "a.b.c"),
        ("*", "{{split(1,xx)}}", "axxbxxc", "a.b.c"),
        ("*", "{{splitFromLeft(1,3)}}", "12345", "123.45"),
        ("*", "{{splitFromLeft(1,5)}}", "12345", "12345"),
        ("*", "{{SplitFromRight(1,3)}}", "12345", "12.345"),
        ("*", "{{sliceFromLeft(1,3)}}", "1234567890", "123.456.789.0"),
        ("*", "{{SliceFromRight(1,3)}}", "1234567890", "1.234.567.890"),
        ("*", "{{sliceFromLeft(1,0)}}", "1234", "1234"),
        ("*", "{{left(1,2)}}", "abc", "ab"),
        ("*", "{{right(1,2)}}", "abc", "bc"),
        ("*", "{{right(1,9)}}", "abc", "abc"),
        ("*", "t.{{random(1)}}", "x", "t.0"),
        ("*", "t.{{random(0)}}", "x", "t.0"),
        ("*", "{{left(1,1)}}.é", "éx", "\udcc3.é"),
    ],
)
def test_subject_is_changed(src, dest, subject, changed):
    assert SubjectTransform(src, dest).apply(subject) == changed


def test_bytes_of_the_wire_are_changed_as_they_are():
    transform = SubjectTransform("a.*", "b.$1.{{right(1,1)}}")
    assert transform.apply_bytes(b"a.\xff\xfe") == b"b.\xff\xfe.\xfe"
    assert transform.apply_bytes(b"c.x") is None


def test_random_stays_below_its_bound():
    transform = SubjectTransform("*", "{{random(4)}}", random.Random(1))
    assert {transform.apply("x") for _ in range(200)} == {"0", "1", "2", "3"}


def test_partition_spreads_by_the_chosen_tokens_alone():
    transform = SubjectTransform("*.*", "{{partition(7,1)}}.$2")
    assert len({transform.apply(f"key.{index}").split(".")[0] for index in range(50)}) == 1
    assert len({transform.apply(f"{index}.x") for index in range(200)}) == 7


INVALID = "invalid mapping destination: "


@pytest.mark.parametrize(
    ("src", "dest", "text"),
    [
        ("a.*", "b.*", "invalid subject"),
        ("a.*", "b.>", "invalid subject"),
        ("a.>", "b", "invalid subject"),
        ("a..b", "c", "invalid subject"),
        ("a", "b..c", "invalid subject"),
        ("a.*", "$2", f"{INVALID}wildcard index out of range in $2: [2]"),
        ("a.>", "$1.>", f"{INVALID}wildcard index out of range in $1: [1]"),
        ("a", "$1", f"{INVALID}wildcard index out of range in $1"),
        ("a", "{{left(1,2)}}", f"{INVALID}wildcard index out of range in {{{{left(1,2)}}}}"),
        (
            "*",
            "{{wildcard()}}",
            f"{INVALID}not enough arguments passed to the function in {{{{wildcard()}}}}",
        ),
        (
            "*",
            "{{split(1,a,b)}}",
            f"{INVALID}too many arguments passed to the function in {{{{split(1,a,b)}}}}",
        ),
        (
            "*",
            "{{left(1,9999999999)}}",
            f"{INVALID}function argument is invalid or in the wrong format in {{{{left(1,9999999999)}}}}",
        ),
        (
            "*",
            "{{random(1,2)}}",
            f"{INVALID}not enough arguments passed to the function in {{{{random(1,2)}}}}",
        ),
        ("*", "{{nothing(1)}}", f"{INVALID}unknown function in {{{{nothing(1)}}}}"),
    ],
)
def test_transform_is_refused(src, dest, text):
    with pytest.raises(TransformError) as refused:
        SubjectTransform(src, dest)
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("dest", "text"),
    [
        ("a..b", f"{INVALID}invalid transform"),
        ("a.>.b", f"{INVALID}invalid transform in b"),
        ("a b", f"{INVALID}invalid transform"),
        ("{{nothing(1)}}", f"{INVALID}unknown function in {{{{nothing(1)}}}}"),
    ],
)
def test_mapping_is_looked_at_token_by_token_first(dest, text):
    with pytest.raises(TransformError) as refused:
        check_mapping("*", dest)
    assert str(refused.value) == text


def test_empty_destination_is_no_transform():
    assert make_transform("a", "") is None
    check_mapping("a..b", "")
