"""The opening of a connection: INFO, CONNECT and what its fields change."""

import json
import re
import socket

import pytest


def test_info_is_the_first_line_and_ends_with_a_blank(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        data = b""
        while not data.endswith(b"\r\n"):
            data += connection.recv(4096)
    assert re.fullmatch(rb"INFO \{.*\} \r\n", data)


def test_info_has_the_fields_that_clients_read(server, plain):
    info = plain.info
    assert re.fullmatch(r"N[A-Z2-7]{55}", info["server_id"])
    assert info["server_name"] == info["server_id"]
    assert info["version"] == "2.15.1"
    assert info["proto"] == 1
    assert info["go"]
    assert info["host"] == "127.0.0.1"
    assert info["port"] == server.port
    assert info["headers"] is True
    assert info["max_payload"] == 1048576
    assert info["client_ip"] == "127.0.0.1"
    assert info["client_id"] > 0
    assert info["api_lvl"] == 5


def test_info_leaves_out_what_does_not_apply(plain):
    absent = {"auth_required", "tls_required", "tls_verify", "tls_available", "jetstream", "nonce", "cluster"}
    absent |= {"domain", "connect_urls", "ws_connect_urls", "ldm", "connect_info", "remote_account", "ip"}
    assert not absent & plain.info.keys()


def test_every_connection_has_its_own_client_id(server, dial_raw):
    ids = [dial_raw(server).info["client_id"] for _ in range(8)]
    assert len(set(ids)) == 8
    assert ids == sorted(ids)


def test_server_name_is_the_configured_one(start, dial_raw):
    assert dial_raw(start(server_name="heron")).info["server_name"] == "heron"


def test_max_payload_is_the_configured_one(start, dial_raw):
    assert dial_raw(start(max_payload=2048)).info["max_payload"] == 2048


def test_client_advertise_replaces_host_and_port_in_info(start, dial_raw):
    info = dial_raw(start(client_advertise="broker.example:4333")).info
    assert (info["host"], info["port"]) == ("broker.example", 4333)
    # nats-server lists connect_urls in a cluster only; midge may name itself there.
    assert info.get("connect_urls", ["broker.example:4333"]) == ["broker.example:4333"]


def test_first_ping_of_protocol_1_is_answered_with_pong_and_then_an_info(plain):
    plain.send(b'CONNECT {"verbose":false,"protocol":1}\r\nPING\r\n')
    plain.expect(rb"PONG\r\nINFO [^\r\n]*\r\n")
    assert plain.info["connect_info"] is True
    assert plain.info["remote_account"] == "$G"
    plain.expect_nothing()


def test_info_after_first_ping_repeats_the_fields_of_the_first(plain):
    first = plain.info
    plain.send(b'CONNECT {"verbose":false,"protocol":1}\r\nPING\r\n')
    plain.expect(rb"PONG\r\nINFO [^\r\n]*\r\n")
    assert {key: plain.info[key] for key in first} == first
    assert plain.info.keys() - first.keys() == {"connect_info", "remote_account"}


def test_first_ping_of_protocol_0_is_answered_with_pong_alone(plain):
    plain.send(b'CONNECT {"verbose":false}\r\nPING\r\n')
    plain.expect(rb"PONG\r\n")
    plain.expect_nothing()


def test_ping_before_connect_does_not_use_up_the_first_ping(plain):
    plain.send(b"PING\r\n")
    plain.expect(rb"PONG\r\n")
    plain.send(b'CONNECT {"verbose":false,"protocol":1}\r\nPING\r\n')
    plain.expect(rb"PONG\r\nINFO [^\r\n]*\r\n")


@pytest.mark.parametrize("protocol", [2, -1])
def test_unknown_protocol_is_refused(plain, protocol):
    plain.send(b'CONNECT {"verbose":false,"protocol":%d}\r\n' % protocol)
    plain.expect_error(b"invalid client protocol", closes=True)


def test_no_responders_without_headers_is_refused(plain):
    plain.send(b'CONNECT {"verbose":false,"no_responders":true}\r\n')
    plain.expect_error(b"no responders requires headers support", closes=True)


@pytest.mark.parametrize(
    "field", [b'"account":"A"', b'"new_account":true,"account":"A"', b'"new_account":true']
)
def test_account_in_connect_is_an_authorization_violation(plain, field):
    plain.send(b'CONNECT {"verbose":false,' + field + b"}\r\n")
    plain.expect_error(b"Authorization Violation", closes=True)


def test_account_that_is_empty_is_ignored(plain):
    plain.send(b'CONNECT {"verbose":false,"account":"","new_account":false}\r\n')
    plain.expect_nothing()


def test_defaults_before_connect_are_verbose_and_pedantic_and_echo(plain):
    plain.send(b"SUB defaults.* 1\r\nPUB defaults.a 2\r\nhi\r\nPUB defaults.* 0\r\n\r\n")
    plain.expect(
        rb"\+OK\r\nMSG defaults\.a 1 2\r\nhi\r\n\+OK\r\n|\+OK\r\n\+OK\r\nMSG defaults\.a 1 2\r\nhi\r\n"
    )
    # The literal check complains and the message is delivered all the same.
    plain.send(b"PING\r\n")
    rest = plain.expect(rb".*PONG\r\n").group()
    assert sorted(re.findall(rb"-ERR '[^']*'|MSG \S+|\+OK", rest)) == [
        b"+OK",
        b"-ERR 'Invalid Publish Subject'",
        b"MSG defaults.*",
    ]


def test_connect_without_fields_is_verbose(plain):
    plain.send(b"CONNECT {}\r\n")
    plain.expect(rb"\+OK\r\n")
    plain.expect_nothing()


@pytest.mark.parametrize("spelling", [b"VERBOSE", b"Verbose", b"vErBoSe"])
def test_keys_of_connect_match_in_any_case(plain, spelling):
    plain.send(b'CONNECT {"' + spelling + b'":false}\r\n')
    plain.expect_nothing()


def test_last_of_duplicated_keys_wins(plain):
    plain.send(b'CONNECT {"verbose":true,"VERBOSE":false}\r\n')
    plain.expect_nothing()


def test_null_leaves_the_default(plain):
    plain.send(b'CONNECT {"verbose":null,"name":null,"protocol":null}\r\n')
    plain.expect(rb"\+OK\r\n")


def test_unknown_keys_are_ignored(plain):
    plain.send(b'CONNECT {"verbose":false,"colour":{"deep":[1,2,{"x":null}]}}\r\n')
    plain.expect_nothing()


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b" ",
        b" {",
        b" []",
        b" 1",
        b' "x"',
        b' {"verbose":false',
        b' {"verbose":"false"}',
        b' {"verbose":0}',
        b' {"name":1}',
        b' {"protocol":"1"}',
        b' {"protocol":1.5}',
        b' {"user":true}',
        b' {"headers":1}',
        b' {"verbose":false} x',
        b" {'verbose':false}",
        b' {"verbose":false,}',
        b' {"echo":[]}',
        b" \xff",
    ],
)
def test_connect_with_bad_json_closes_without_a_word(plain, argument):
    plain.send(b"CONNECT" + argument + b"\r\n")
    plain.expect_closed()


@pytest.mark.parametrize(
    "argument", [b" null", b' {"verbose":false,"name":"\\u00e9\\ud800"}', b"\t{}", b"   {}  "]
)
def test_connect_with_odd_but_valid_json_is_accepted(plain, argument):
    plain.send(b"CONNECT" + argument + b"\r\nPING\r\n")
    plain.expect(rb"(\+OK\r\n)?PONG\r\n")


def test_second_connect_changes_the_options(client):
    client.send(b'CONNECT {"verbose":true}\r\n')
    client.expect(rb"\+OK\r\n")
    client.send(b"SUB second.connect 1\r\n")
    client.expect(rb"\+OK\r\n")
    client.send(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
    client.expect_nothing()


def test_second_connect_drops_the_subscriptions(client):
    client.send(b"SUB second.drops 1\r\n")
    client.expect_nothing()
    client.send(b'CONNECT {"verbose":false,"pedantic":false}\r\nPUB second.drops 0\r\n\r\n')
    client.expect_nothing()


def test_echo_false_withholds_own_messages_from_every_own_subscription(server, dial):
    silent = dial(server, echo=False)
    other = dial(server)
    silent.send(b"SUB echo.off 1\r\nSUB echo.* 2\r\nSUB echo.off group 3\r\n")
    silent.expect_nothing()
    silent.send(b"PUB echo.off 4\r\nmine\r\n")
    silent.expect_nothing()
    other.send(b"PUB echo.off 6\r\ntheirs\r\n")
    got = {silent.expect(rb"MSG echo\.off (\d) 6\r\ntheirs\r\n").group(1) for _ in range(3)}
    assert got == {b"1", b"2", b"3"}


def test_verbose_answers_every_operation_with_ok(server, dial):
    verbose = dial(server, verbose=True)
    verbose.send(b"SUB verbose.sub 1\r\n")
    verbose.expect(rb"\+OK\r\n")
    verbose.send(b"PUB verbose.other 2\r\nhi\r\n")
    verbose.expect(rb"\+OK\r\n")
    verbose.send(b"UNSUB 1\r\n")
    verbose.expect(rb"\+OK\r\n")
    verbose.send(b"UNSUB 77\r\n")
    verbose.expect(rb"\+OK\r\n")
    verbose.send(b"PING\r\n")
    verbose.expect(rb"PONG\r\n")
    verbose.send(b"PONG\r\n")
    verbose.expect_nothing()


def test_verbose_answers_hpub_with_ok(server, dial):
    verbose = dial(server, verbose=True, headers=True)
    verbose.send(b"HPUB verbose.h 12 12\r\nNATS/1.0\r\n\r\n\r\n")
    verbose.expect(rb"\+OK\r\n")


def test_info_from_a_client_is_ignored(client):
    client.send(b'INFO {"server_id":"x"}\r\n')
    client.expect_nothing()


def test_ok_from_a_client_is_ignored(client):
    client.send(b"+OK\r\n")
    client.expect_nothing()


def test_err_from_a_client_closes_the_connection(client):
    client.send(b"-ERR 'bad'\r\n")
    client.expect_closed()


def test_info_json_is_one_object_without_duplicates(plain):
    def refuse_duplicates(pairs):
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    text = json.dumps(plain.info)
    assert json.loads(text, object_pairs_hook=refuse_duplicates)
