# cython: language_level=3, embedsignature=True, wraparound=False
"""HighwayHash with 64 bits, the checksum of nats-server's files.

Follows the description in Alakuijala, Cox, Wassenberg: "Fast keyed hash/pseudo-random function using SIMD
multiply and permute"; numbers are little-endian. The one package for Python (highwayhash-cffi) has not been kept
since 2020.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef uint64_t[4] INITIAL_0 = [
    0xDBE6D5D5FE4CCE2FU, 0xA4093822299F31D0U, 0x13198A2E03707344U, 0x243F6A8885A308D3U]
cdef uint64_t[4] INITIAL_1 = [
    0x3BD39E10CB0EF593U, 0xC0ACF169B5F18A8CU, 0xBE5466CF34E90C6CU, 0x452821E638D01377U]


def hash64(bytes key not None, bytes data not None):
    """Return the hash of `data` as a number.

    Raises:
        ValueError: the key does not have 32 bytes.
    """
    if PyBytes_GET_SIZE(key) != 32:
        raise ValueError(f"key of {len(key)} bytes")
    return hash(<const uint8_t *>PyBytes_AS_STRING(key), <const uint8_t *>PyBytes_AS_STRING(data),
                <size_t>PyBytes_GET_SIZE(data))


cdef inline uint64_t halves_swapped(uint64_t word) noexcept nogil:
    return word >> 32 | word << 32


cdef inline void mix(uint64_t high, uint64_t low, uint64_t *add_high, uint64_t *add_low) noexcept nogil:
    """Add the bytes of two words, in the order that spreads good bits into bad ones."""
    add_low[0] += (
        ((low & 0xFF000000U) | (high & 0xFF00000000U)) >> 24
        | ((low & 0xFF0000000000U) | (high & 0xFF000000000000U)) >> 16
        | (low & 0xFF0000U) | (low & 0xFF00U) << 32
        | (high & 0xFF00000000000000U) >> 8 | low << 56)
    add_high[0] += (
        ((high & 0xFF000000U) | (low & 0xFF00000000U)) >> 24
        | (high & 0xFF0000U) | (high & 0xFF0000000000U) >> 16
        | (high & 0xFF00U) << 24 | (low & 0xFF000000000000U) >> 8
        | (high & 0xFFU) << 48 | (low & 0xFF00000000000000U))


cdef inline void update(state_t *state, const uint64_t *packet) noexcept nogil:
    cdef int lane
    for lane in range(4):
        state.v1[lane] += state.mul0[lane] + packet[lane]
        state.mul0[lane] ^= (state.v1[lane] & 0xFFFFFFFFU) * (state.v0[lane] >> 32)
        state.v0[lane] += state.mul1[lane]
        state.mul1[lane] ^= (state.v0[lane] & 0xFFFFFFFFU) * (state.v1[lane] >> 32)
    for lane in range(0, 4, 2):
        mix(state.v1[lane + 1], state.v1[lane], &state.v0[lane + 1], &state.v0[lane])
    for lane in range(0, 4, 2):
        mix(state.v0[lane + 1], state.v0[lane], &state.v1[lane + 1], &state.v1[lane])


cdef inline void update_rest(state_t *state, const uint8_t *rest, size_t size) noexcept nogil:
    """Take in the last 1..31 bytes."""
    cdef uint8_t[32] padded
    cdef uint64_t[4] packet
    cdef uint32_t low, high
    cdef size_t odd = size & 3
    cdef const uint8_t *tail = rest + (size - odd)
    cdef int lane
    for lane in range(4):
        state.v0[lane] += (<uint64_t>size << 32) + size
        low, high = <uint32_t>state.v1[lane], <uint32_t>(state.v1[lane] >> 32)
        low = low << size | low >> (32 - size)
        high = high << size | high >> (32 - size)
        state.v1[lane] = <uint64_t>high << 32 | low
    memset(padded, 0, 32)
    memcpy(padded, rest, size - odd)
    if size & 16:
        memcpy(padded + 28, rest + size - 4, 4)
    elif odd:
        padded[16], padded[17], padded[18] = tail[0], tail[odd >> 1], tail[odd - 1]
    memcpy(packet, padded, 32)
    update(state, packet)


cdef uint64_t hash(const uint8_t *key, const uint8_t *data, size_t size) noexcept nogil:
    """Return the hash of `size` bytes under the 32 bytes of `key`."""
    cdef state_t state
    cdef uint64_t[4] packet
    cdef int lane, _round
    memcpy(packet, key, 32)
    for lane in range(4):
        state.mul0[lane], state.mul1[lane] = INITIAL_0[lane], INITIAL_1[lane]
        state.v0[lane] = INITIAL_0[lane] ^ packet[lane]
        state.v1[lane] = INITIAL_1[lane] ^ halves_swapped(packet[lane])
    while size >= 32:
        memcpy(packet, data, 32)
        update(&state, packet)
        data += 32
        size -= 32
    if size:
        update_rest(&state, data, size)
    for _round in range(4):
        for lane in range(4):
            packet[lane] = halves_swapped(state.v0[lane ^ 2])
        update(&state, packet)
    return state.v0[0] + state.v1[0] + state.mul0[0] + state.mul1[0]
