"""Compression and encryption of one stream's records, and of the small values about it.

A coded record's body is made in this order, and undone in the other:

    parts       2 bytes length of the subject, 4 bytes length of the headers, subject, headers, payload
    compressed  zstd frame of that (flag COMPRESSED); in encrypted streams only when it is smaller
    encrypted   12 bytes nonce, ciphertext, 16 bytes tag (flag ENCRYPTED), bound to the message's sequence

Every encrypted stream has a data key of its own, made at random and kept in the stream's envelope, sealed by
the store's key (at most 2**32 records per key are safe with random nonces; a stream's rate limit is years
away from that at rest, and re-creating the stream makes another key). AES-256-GCM where the processor has
AES, by choice ChaCha20-Poly1305.
"""

import base64
import os
import struct
from typing import TypedDict

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from storage.errors import KeyRequired
from storage.record import FLAG_COMPRESSED, FLAG_ENCRYPTED

PARTS = struct.Struct("<HI")
NONCE_BYTES = 12
KEY_BYTES = 32
CIPHERS: dict[str, type[AESGCM] | type[ChaCha20Poly1305]] = {"aes": AESGCM, "chacha": ChaCha20Poly1305}
# The first zstd level: on 128-byte JSON it costs 2 us and higher ones win a few percent.
ZSTD_LEVEL = 1


class CodecDescription(TypedDict):
    """What an envelope says of a codec."""

    compression: bool
    cipher: str | None
    key: str | None


class StreamCodec:
    """How one stream's records are coded."""

    def __init__(
        self,
        *,
        compression: bool = False,
        cipher: str | None = None,
        store_key: bytes | None = None,
        key: bytes | None = None,
    ) -> None:
        """Make a codec.

        Args:
            cipher: "aes", "chacha", or None: not encrypted. store_key: 32 bytes, needed with a cipher.
            key: the stream's data key; None makes one.

        Raises:
            KeyRequired: a cipher without a store key of 32 bytes.
        """
        self.compression = compression
        self.cipher = cipher
        self._store_key = store_key
        self._key = b""
        if cipher is not None:
            if store_key is None or len(store_key) != KEY_BYTES:
                raise KeyRequired("encryption needs a key of 32 bytes")
            self._key = key or os.urandom(KEY_BYTES)
            self._aead = CIPHERS[cipher](self._key)
        self._compress = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=False).compress
        self._decompress = zstandard.ZstdDecompressor().decompress

    @property
    def is_encrypted(self) -> bool:
        """Whether anything about the stream's messages is sealed."""
        return self.cipher is not None

    def describe(self) -> CodecDescription:
        """Return what `restore` needs beside the store's key."""
        sealed = None
        if self.cipher is not None and self._store_key is not None:
            nonce = os.urandom(NONCE_BYTES)
            sealed = base64.b64encode(
                nonce + CIPHERS[self.cipher](self._store_key).encrypt(nonce, self._key, b"")
            ).decode()
        return {"compression": self.compression, "cipher": self.cipher, "key": sealed}

    @staticmethod
    def restore(description: CodecDescription, store_key: bytes | None) -> "StreamCodec":
        """Return the codec that `describe` described.

        Raises:
            KeyRequired: it encrypts, and the key is missing or another.
        """
        cipher, sealed = description["cipher"], description["key"]
        if cipher is None or sealed is None:
            return StreamCodec(compression=description["compression"])
        if store_key is None or len(store_key) != KEY_BYTES:
            raise KeyRequired("the stream is encrypted and no key of 32 bytes was given")
        data = base64.b64decode(sealed)
        try:
            key = CIPHERS[cipher](store_key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], b"")
        except InvalidTag:
            raise KeyRequired("the stream is encrypted with another key") from None
        return StreamCodec(
            compression=description["compression"], cipher=cipher, store_key=store_key, key=key
        )

    def encode(self, sequence: int, subject: bytes, headers: bytes, payload: bytes) -> tuple[int, bytes]:
        """Return (record flags, stored body) of a message."""
        body = PARTS.pack(len(subject), len(headers)) + subject + headers + payload
        flags = 0
        if self.compression:
            compressed = self._compress(body)
            if len(compressed) < len(body) or self.cipher is None:
                flags, body = FLAG_COMPRESSED, compressed
        if self.cipher is not None:
            nonce = os.urandom(NONCE_BYTES)
            body = nonce + self._aead.encrypt(nonce, body, sequence.to_bytes(8, "little"))
            flags |= FLAG_ENCRYPTED
        return flags, body

    def decode(self, flags: int, sequence: int, body: bytes) -> tuple[bytes, bytes, bytes]:
        """Return (subject, headers, payload) of a stored body that passed its CRC.

        Raises:
            KeyRequired: it is encrypted with another key.
        """
        if flags & FLAG_ENCRYPTED:
            if self.cipher is None:
                raise KeyRequired(f"message {sequence} is encrypted and the stream has no key")
            try:
                body = self._aead.decrypt(
                    body[:NONCE_BYTES], body[NONCE_BYTES:], sequence.to_bytes(8, "little")
                )
            except InvalidTag:
                raise KeyRequired(f"message {sequence} is encrypted with another key") from None
        if flags & FLAG_COMPRESSED:
            body = self._decompress(body)
        subject_bytes, headers_bytes = PARTS.unpack_from(body)
        headers_at = PARTS.size + subject_bytes
        payload_at = headers_at + headers_bytes
        return body[PARTS.size : headers_at], body[headers_at:payload_at], body[payload_at:]

    def seal_blob(self, data: bytes) -> bytes:
        """Return `data` encrypted; as it is when the codec only compresses."""
        if self.cipher is None:
            return data
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, data, b"blob")

    def open_blob(self, data: bytes) -> bytes:
        """Return what seal_blob was given.

        Raises:
            KeyRequired: it was sealed with another key.
        """
        if self.cipher is None:
            return data
        try:
            return self._aead.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], b"blob")
        except InvalidTag:
            raise KeyRequired("sealed with another key") from None
