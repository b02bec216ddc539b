"""The parser against its slow twin, on input that is right, slightly wrong, and cut anywhere."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from support.parser_model import Operation, ParserModel

from workers.parser import parse_all

MAX_CONTROL_LINE = 128
MAX_PAYLOAD = 1000

blanks = st.sampled_from([b" ", b" ", b" ", b"\t", b"  ", b" \t "])
line_ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])
token_bytes = st.integers(0x21, 0xFF).filter(lambda byte: byte != 0x7F)
# Lengths around the 64 bytes that the fast way looks at, and the limit of a control line.
tokens = st.one_of(
    st.sampled_from([b"foo", b"foo.bar", b"*", b"a.>", b"_INBOX.x", b"1"]),
    st.lists(token_bytes, min_size=1, max_size=6).map(bytes),
    st.integers(50, 130).map(lambda length: b"s" * length),
)


@st.composite
def cased(draw: st.DrawFn, verb: bytes) -> bytes:
    return draw(st.sampled_from([verb, verb, verb.lower(), verb.capitalize()]))


@st.composite
def lines(draw: st.DrawFn, verb: bytes, words: list[bytes]) -> bytes:
    text = draw(cased(verb))
    for word in words:
        text += draw(blanks) + word
    return text + draw(st.sampled_from([b"", b"", b" "])) + draw(line_ends)


@st.composite
def publishes(draw: st.DrawFn) -> bytes:
    payload = draw(st.one_of(st.binary(max_size=40), st.integers(0, MAX_PAYLOAD).map(bytes)))
    words = [draw(tokens), *draw(st.lists(tokens, max_size=1))]
    zeros = b"0" * draw(st.sampled_from([0, 0, 1, 5, 9]))
    with_headers = draw(st.booleans())
    if with_headers:
        words.append(b"%d" % draw(st.integers(0, len(payload))))
    words.append(zeros + b"%d" % len(payload))
    return draw(lines(b"HPUB" if with_headers else b"PUB", words)) + payload + b"\r\n"


simple = st.one_of(
    st.lists(tokens, min_size=2, max_size=3).flatmap(lambda words: lines(b"SUB", words)),
    st.tuples(
        tokens, st.sampled_from([[], [b"0"], [b"5"], [b"-1"], [b"x"], [b"9" * 9], [b"9" * 10]])
    ).flatmap(lambda pair: lines(b"UNSUB", [pair[0], *pair[1]])),
    st.sampled_from([b"PING\r\n", b"pong\n", b"+OK\r\n", b"PINGGG foo\r\n", b"-ERR 'x'\r\n", b"INFO {}\r\n"]),
    st.sampled_from([b"CONNECT {}\r\n", b'connect {"verbose":false}\r\n', b"CONNECT{}\r\n", b"CONNECT \r\n"]),
)
streams = st.lists(st.one_of(publishes(), simple), max_size=8).map(b"".join)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A stream with some bytes changed, taken out or put in."""
    data = bytearray(draw(streams))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["change", "remove", "insert"]))
        with_what = draw(st.sampled_from(list(b" \t\r\n0159PUB*>.-+\x00\xff")))
        if how == "insert":
            data.insert(at, with_what)
        elif at < len(data):
            data[at : at + 1] = [with_what] if how == "change" else []
    return bytes(data)


inputs = st.one_of(streams, damaged(), st.binary(max_size=100))


def parse(data: bytes, *, headers: bool = True) -> tuple[list[Operation], bytes, str | None]:
    return parse_all(data, MAX_CONTROL_LINE, MAX_PAYLOAD, headers)


@given(data=inputs, headers=st.booleans())
@settings(max_examples=1500, deadline=None)
def test_parser_agrees_with_its_twin(data: bytes, headers: bool) -> None:
    assert parse(data, headers=headers) == ParserModel(MAX_CONTROL_LINE, MAX_PAYLOAD, headers).parse_all(data)


@given(data=inputs, cuts=st.lists(st.integers(0, 300), max_size=6))
@settings(max_examples=1500, deadline=None)
def test_any_split_of_the_input_gives_the_same_operations(data: bytes, cuts: list[int]) -> None:
    """An unfinished operation is kept and parsed again from its start, as the data plane does."""
    operations: list[Operation] = []
    rest, error = b"", None
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    for begin, end in pairwise(edges):
        more, rest, error = parse(rest + data[begin:end])
        operations += more
        if error:
            break
    whole, whole_rest, whole_error = parse(data)
    assert operations == whole
    assert error == whole_error
    if not error:
        assert rest == whole_rest


@given(data=streams)
@settings(max_examples=300, deadline=None)
def test_byte_by_byte_is_the_same_too(data: bytes) -> None:
    operations: list[Operation] = []
    rest, error = b"", None
    for at in range(len(data)):
        more, rest, error = parse(rest + data[at : at + 1])
        operations += more
        if error:
            break
    assert (operations, error) == parse(data)[::2]


@given(data=inputs)
@settings(max_examples=500, deadline=None)
def test_tail_is_what_a_subscriber_is_sent_after_its_sid(data: bytes) -> None:
    for operation in parse(data)[0]:
        if operation[0] == "PUB":
            _, _, reply, header_size, payload, tail = operation
            *words, total = tail[: tail.index(b"\r\n")].split(b" ")
            assert tail.endswith(b"\r\n" + payload + b"\r\n")
            assert int(total) == len(payload)
            sizes = [] if header_size < 0 else [int(words.pop())]
            assert sizes == ([] if header_size < 0 else [header_size])
            assert words == ([reply] if reply else [])
