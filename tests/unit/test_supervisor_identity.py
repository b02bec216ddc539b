"""A server id is a valid public nkey of kind server."""

import base64
import binascii

from supervisor.identity import new_server_id


def test_id_decodes_as_an_nkey() -> None:
    server_id = new_server_id()
    raw = base64.b32decode(server_id)
    assert len(server_id) == 56
    assert server_id[0] == "N"
    assert raw[0] == 13 << 3
    assert int.from_bytes(raw[33:], "little") == binascii.crc_hqx(raw[:33], 0)


def test_known_id_keeps_its_key() -> None:
    """The key of an id that a nats-server gave itself gives the same id, so prefix and checksum are right."""
    known = "NCVBCP56XVQ77HG6W6WZIINMF7WEEPKSSUCSAV2ATRM4XBUERA74KADN"
    key = base64.b32decode(known)[1:33]
    assert new_server_id(lambda size: key) == known


def test_every_start_has_its_own_id() -> None:
    assert new_server_id() != new_server_id()
