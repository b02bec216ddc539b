"""JSON as Go writes and reads it; tests/protocol/test_jetstream_json.py compares words with nats-server's."""

import pytest

from workers.jetstream import gojson

INNER = gojson.Struct("server.Inner", {"text": gojson.STRING, "count": gojson.INT32}, zero={})
REQUEST = gojson.Struct(
    "server.Request",
    {
        "name": gojson.STRING,
        "seq": gojson.UINT64,
        "batch": gojson.INT,
        "window": gojson.DURATION,
        "is_on": gojson.BOOL,
        "at": gojson.TIME,
        "names": gojson.Array(gojson.STRING, "[]string"),
        "inner": INNER,
        "inners": gojson.Array(INNER, "[]server.Inner"),
        "labels": gojson.TEXTS,
        "mode": gojson.Enum({"on": "on", "off": "off"}),
    },
)


def decode(body, *, strict=True):
    return gojson.decode(body.encode(), REQUEST, strict=strict)


def refusal(body, *, strict=True):
    with pytest.raises(gojson.DecodeError) as refused:
        decode(body, strict=strict)
    return str(refused.value)


@pytest.mark.parametrize("body", ["", "  \r\n", "{}", "null", "{} {}", '{"name":null,"seq":null}'])
def test_what_says_nothing_gives_nothing(body):
    assert decode(body) == {}


def test_members_come_under_their_canonical_names():
    assert decode('{"NAME":"x","Seq":5,"iſ_on":true}') == {"name": "x", "seq": 5, "is_on": True}


def test_every_kind_is_read():
    body = (
        '{"name":"n","seq":18446744073709551615,"batch":-1,"window":1000,"is_on":false,'
        '"at":"2024-01-02T03:04:05.60+01:00","names":["a","b"],"inner":{"text":"t","count":2},'
        '"inners":[{"count":1}],"labels":{"k":"v"},"mode":"on"}'
    )
    assert decode(body) == {
        "name": "n",
        "seq": (1 << 64) - 1,
        "batch": -1,
        "window": 1000,
        "is_on": False,
        "at": "2024-01-02T03:04:05.6+01:00",
        "names": ["a", "b"],
        "inner": {"text": "t", "count": 2},
        "inners": [{"count": 1}],
        "labels": {"k": "v"},
        "mode": "on",
    }


def test_null_in_a_list_is_the_zero_of_its_kind():
    assert decode('{"names":["a",null],"inners":[null]}') == {"names": ["a", ""], "inners": [{}]}


def test_several_documents_add_up():
    assert decode('{"name":"a","seq":1}{"seq":2}\n{"inner":{"text":"x"}}') == {
        "name": "a",
        "seq": 2,
        "inner": {"text": "x"},
    }


def test_escaped_text_is_read_as_go_reads_it():
    assert decode(r'{"name":"\u0041\ud83d\ude00\ud800\n"}') == {"name": "A😀\ufffd\n"}
    assert gojson.decode(b'{"name":"a\xffb"}', REQUEST) == {"name": "a\ufffdb"}


def test_unknown_member_is_refused_or_ignored():
    assert refusal('{"bogus":1}') == 'json: unknown field "bogus"'
    assert decode('{"bogus":1,"name":"x"}', strict=False) == {"name": "x"}


def test_first_fault_in_the_text_is_reported():
    assert refusal('{"bogus":1,"seq":"x"}') == 'json: unknown field "bogus"'
    assert refusal('{"seq":"x","bogus":1}') == (
        "json: cannot unmarshal string into Go struct field Request.seq of type uint64"
    )


def test_path_of_a_fault_is_named():
    assert refusal('{"inners":[{},{"count":3000000000}]}') == (
        "json: cannot unmarshal number 3000000000 into Go struct field Request.inners.1.count of type int32"
    )
    assert refusal('{"names":["a",5]}') == (
        "json: cannot unmarshal number into Request.names.1 of type string"
    )


def test_fractions_are_no_integers():
    assert "number 1.0 " in refusal('{"seq":1.0}')


def test_syntax_fault_has_its_offset_when_strict():
    assert refusal('{"name":"A"}x') == "invalid character 'x' looking for beginning of value at offset 13"
    assert refusal('{"name":') == "unexpected EOF"


def test_without_strict_the_words_are_those_of_unmarshal():
    assert refusal('{"name":"A"}x', strict=False) == "invalid character 'x' after top-level value"
    assert refusal('{"name":', strict=False) == "unexpected end of JSON input"
    assert refusal("{", strict=False) == "unexpected end of JSON input"
    assert refusal('{"name":5}', strict=False) == (
        "json: cannot unmarshal number into Go struct field Request.name of type string"
    )


def test_deep_nesting_is_refused_without_harm():
    assert refusal("[" * 100_000) == "exceeded max depth at offset 10001"


@pytest.mark.parametrize(
    ("body", "is_json"), [(b"", False), (b" \n{", True), (b"[]", True), (b"5", False), (b"x{", False)]
)
def test_optional_body_counts_only_if_it_begins_like_one(body, is_json):
    assert gojson.is_object_or_array(body) is is_json


def test_writing_escapes_what_html_minds():
    assert gojson.encode({"b": "<&>", "a": "\u2028é\x01"}) == (
        b'{"b":"\\u003c\\u0026\\u003e","a":"\\u2028\xc3\xa9\\u0001"}'
    )


def test_bytes_are_written_as_base64():
    assert gojson.encode({"data": b"\x00\xff"}) == b'{"data":"AP8="}'


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0001-01-01T00:00:00Z"),
        (1_000_000_000, "1970-01-01T00:00:01Z"),
        (1_700_000_000_120_000_000, "2023-11-14T22:13:20.12Z"),
        (1_700_000_000_000_000_001, "2023-11-14T22:13:20.000000001Z"),
    ],
)
def test_times_are_written_without_trailing_zeros(ns, text):
    assert gojson.format_time(ns) == text
    assert gojson.parse_time(text) == ns


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2024-01-01T00:00:00.100+02:00", "2023-12-31T22:00:00.1Z"),
        ("2024-01-01T00:00:00-00:30", "2024-01-01T00:30:00Z"),
        ("2024-01-01T1:02:03,5Z", "2024-01-01T01:02:03.5Z"),
        ("2024-01-01T00:00:00+23:60", "2023-12-31T00:00:00Z"),
        ("2024-02-29T00:00:00.1234567899Z", "2024-02-29T00:00:00.123456789Z"),
    ],
)
def test_zones_and_decimals_are_understood(text, same):
    assert gojson.parse_time(text) == gojson.parse_time(same)


@pytest.mark.parametrize("text", ["", "2024-02-30T00:00:00Z", "2024-01-01T00:00:00", "2024-01-01T00:00:00Zx"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="parsing time"):
        gojson.parse_time(text)


def test_years_before_the_first_are_counted():
    day_ns = 86_400_000_000_000
    assert gojson.parse_time("0000-12-31T00:00:00Z") == gojson.parse_time("0001-01-02T00:00:00Z") - 2 * day_ns


def test_maps_hold_values_of_one_kind():
    struct = gojson.Struct("server.Counts", {"subjects": gojson.COUNTS})
    assert gojson.decode(b'{"subjects":{"a":1,"b":null}}', struct) == {"subjects": {"a": 1, "b": 0}}
    with pytest.raises(
        gojson.DecodeError, match=r"number -1 into Go struct field Counts.subjects.a of type uint64"
    ):
        gojson.decode(b'{"subjects":{"a":-1}}', struct)
