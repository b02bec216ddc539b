"""CONNECT's JSON is read as Go's decoder reads it."""

import pytest

from workers.connect import ConnectOptions, parse_connect, parse_object
from workers.errors import BadConnect, CloseReason


def parse(text: bytes) -> ConnectOptions:
    return parse_connect(text, ConnectOptions())


def test_defaults_are_nats_servers() -> None:
    options = parse(b"{}")
    assert (options.verbose, options.pedantic, options.echo) == (True, True, True)
    assert (options.headers, options.no_responders, options.protocol) == (False, False, 0)


def test_every_field_is_read_by_its_wire_name() -> None:
    options = parse(
        b'{"verbose":false,"pedantic":false,"echo":false,"headers":true,"no_responders":true,"protocol":1,'
        b'"auth_token":"t","user":"u","pass":"p","name":"n","lang":"l","version":"v","nkey":"k","sig":"s",'
        b'"jwt":"j","account":"a","new_account":true,"tls_required":true}'
    )
    assert options == ConnectOptions(
        verbose=False,
        pedantic=False,
        echo=False,
        headers=True,
        no_responders=True,
        protocol=1,
        auth_token="t",
        user="u",
        password="p",
        name="n",
        lang="l",
        version="v",
        nkey="k",
        sig="s",
        jwt="j",
        account="a",
        new_account=True,
        tls_required=True,
    )


@pytest.mark.parametrize("key", [b"verbose", b"VERBOSE", b"Verbose", b"vErBoSe"])
def test_names_match_in_any_case(key: bytes) -> None:
    assert parse(b'{"%b":false}' % key).verbose is False


def test_of_doubled_names_the_last_counts() -> None:
    assert parse(b'{"verbose":false,"VERBOSE":true,"user":"a","user":"b"}').verbose is True
    assert parse(b'{"user":"a","USER":"b"}').user == "b"


def test_unknown_names_are_ignored_whatever_they_hold() -> None:
    assert parse(b'{"x":[1,{"y":null}],"password":"no field of the protocol","echo":false}').echo is False
    assert parse(b'{"password":5}').password == ""


def test_null_and_absence_keep_what_an_earlier_connect_said() -> None:
    earlier = parse(b'{"verbose":false,"user":"me"}')
    assert parse_connect(b'{"verbose":null,"echo":false}', earlier) == ConnectOptions(
        verbose=False, user="me", echo=False
    )
    assert parse_connect(b"null", earlier) == earlier
    assert earlier.echo, "the earlier options are not changed"


@pytest.mark.parametrize(
    "text",
    [
        b'{"verbose":"false"}',
        b'{"verbose":0}',
        b'{"user":5}',
        b'{"protocol":"1"}',
        b'{"protocol":1.5}',
        b'{"protocol":true}',
        b'{"user":["a"]}',
        b'{"echo":{}}',
    ],
)
def test_value_of_another_type_is_refused(text: bytes) -> None:
    with pytest.raises(BadConnect):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{}x",
        b"[]",
        b"5",
        b'"x"',
        b"true",
        b"{'a':1}",
        b'{"a":1,}',
        b"\xff",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b"[" * 100000,
        b'{"user":"\n"}',
    ],
)
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(BadConnect):
        parse(text)


def test_bytes_that_are_no_unicode_are_replaced() -> None:
    assert parse(b'{"name":"\xff"}').name == "\ufffd"


def test_bad_connect_closes_without_a_word() -> None:
    assert BadConnect.wire_text == ""
    assert BadConnect.close_reason is CloseReason.PROTOCOL_VIOLATION


def test_object_keeps_order_and_doubles() -> None:
    assert parse_object(b'{"b":1,"a":2,"b":[3]}') == [("b", 1), ("a", 2), ("b", [3])]
    assert parse_object(b" null ") == []
