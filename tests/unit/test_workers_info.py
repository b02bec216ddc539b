"""INFO lines, field by field."""

import json

from support.planes import worker_config

from workers.info import API_LEVEL, InfoWriter


def fields_of(line: bytes) -> dict[str, object]:
    """Return the JSON of a line, whose form is checked."""
    assert line.startswith(b"INFO {")
    assert line.endswith(b"} \r\n")
    assert line.count(b"\n") == 1
    fields = json.loads(line[5:])
    assert isinstance(fields, dict)
    return fields


def test_greeting_tells_everything_about_server_and_client() -> None:
    config = worker_config(server_id="NABC", server_name="n1", host="0.0.0.0", port=4333, max_payload=5000)
    fields = fields_of(InfoWriter(config).greeting(7, "127.0.0.1"))
    assert str(fields.pop("go")).startswith("python3")
    assert fields == {
        "server_id": "NABC",
        "server_name": "n1",
        "version": "2.15.1",
        "proto": 1,
        "host": "0.0.0.0",
        "port": 4333,
        "headers": True,
        "max_payload": 5000,
        "client_id": 7,
        "client_ip": "127.0.0.1",
        "api_lvl": API_LEVEL,
        "midge": "0.1.0",
    }


def test_need_of_credentials_is_told() -> None:
    for changes in ({"token": "t"}, {"user": "u", "password": "p"}):
        line = InfoWriter(worker_config(**changes)).greeting(1, "::1")
        assert fields_of(line)["auth_required"] is True


def test_advertised_urls_are_told() -> None:
    writer = InfoWriter(worker_config(connect_urls=["a:1", "b:2"]))
    assert fields_of(writer.greeting(1, "::1"))["connect_urls"] == ["a:1", "b:2"]
    assert fields_of(writer.connected(1, "::1", "$G"))["connect_urls"] == ["a:1", "b:2"]


def test_second_info_names_the_account() -> None:
    fields = fields_of(InfoWriter(worker_config()).connected(9, "10.0.0.1", "$G"))
    assert (fields["connect_info"], fields["remote_account"]) == (True, "$G")
    assert (fields["client_id"], fields["client_ip"]) == (9, "10.0.0.1")


def test_lame_duck_tells_so_and_sends_nobody_back() -> None:
    fields = fields_of(InfoWriter(worker_config(connect_urls=["a:1"])).lame_duck(9, "10.0.0.1"))
    assert fields["ldm"] is True
    assert "connect_urls" not in fields


def test_names_with_quotes_are_json() -> None:
    assert (
        fields_of(InfoWriter(worker_config(server_name='a"b\\ü')).greeting(1, "::1"))["server_name"]
        == 'a"b\\ü'
    )


def test_jetstream_and_its_domain_are_told() -> None:
    writer = InfoWriter(worker_config(jetstream=True, js_domain="hub"))
    for line in (writer.greeting(1, "::1"), writer.connected(1, "::1", "$G"), writer.lame_duck(1, "::1")):
        assert (fields_of(line)["jetstream"], fields_of(line)["domain"]) == (True, "hub")
    assert "domain" not in fields_of(InfoWriter(worker_config(jetstream=True)).greeting(1, "::1"))
