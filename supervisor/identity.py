"""The name under which a server is known to clients: a new public key at every start.

A server id looks like an nkey of kind "server": base32 without padding of

    offset 0   1 byte    13 << 3, which makes the first letter an N
    offset 1   32 bytes  the public key
    offset 33  2 bytes   CRC-16/XMODEM of the 33 bytes before, little endian

35 bytes are 280 bits, so exactly 56 letters. The key is random: nothing is ever signed with it here.
"""

from __future__ import annotations

import binascii
import os
from collections.abc import Callable

SERVER_PREFIX = 13 << 3
KEY_BYTES = 32
ID_LETTERS = 56
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def new_server_id(random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """Return a server id that nobody else has.

    Args:
        random_bytes: returns as many random bytes as asked for.
    """
    key = random_bytes(KEY_BYTES)
    assert len(key) == KEY_BYTES
    body = bytes([SERVER_PREFIX]) + key
    return _base32(body + binascii.crc_hqx(body, 0).to_bytes(2, "little"))


def _base32(data: bytes) -> str:
    """Encode a multiple of five bytes; the base64 module would cost its import at start."""
    assert len(data) % 5 == 0
    bits = int.from_bytes(data, "big")
    count = len(data) * 8 // 5
    return "".join(_ALPHABET[(bits >> (5 * (count - 1 - index))) & 31] for index in range(count))
