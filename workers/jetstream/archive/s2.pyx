# cython: language_level=3, embedsignature=True, wraparound=False
"""One block of the S2 or Snappy format ↔ bytes, and the checksum of their framing format.

    block    uvarint length of the content, then elements
    literal  tag & 3 = 0; tag >> 2: length - 1, or 60..63: it follows in 1..4 bytes; then the bytes
    copy 1   tag & 3 = 1; length 4..11 in bits 2..4, offset of 11 bits in bits 5..7 and the next byte;
             offset 0 (S2 only): the last offset again, length 0..4: + 4, 5, 6, 7: 1, 2, 3 bytes follow,
             + 8, + 260, + 65540
    copy 2   tag & 3 = 2; tag >> 2: length - 1; offset of 2 bytes
    copy 4   tag & 3 = 3; tag >> 2: length - 1; offset of 4 bytes

The encoder makes plain Snappy, which every S2 decoder reads; numbers are little-endian. No library for Python
decodes the repeated offsets of S2 (cramjam and python-snappy stop at Snappy).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

crc32c_choose()


def checksum(bytes data not None):
    """Return the masked CRC32C that a frame carries of its content."""
    cdef uint32_t crc = crc32c(0, <const uint8_t *>PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data))
    return <uint32_t>(((crc >> 15) | (crc << 17)) + <uint32_t>0xA282EAD8)


def compress_block(bytes data not None):
    """Return `data` as a Snappy block.

    Raises:
        ValueError: it is longer than 65,536 bytes.
    """
    cdef uint16_t[1 << HASH_BITS] table
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t used
    cdef bytes out
    if size > BLOCK_BYTES_MAX:
        raise ValueError(f"block of {size} bytes")
    # Literals cost five bytes at most, and a copy is never longer than what it stands for.
    out = PyBytes_FromStringAndSize(NULL, size + size // 6 + 32)
    used = encode(<const uint8_t *>PyBytes_AS_STRING(data), size, <uint8_t *>PyBytes_AS_STRING(out), table)
    return out[:used]


def decompress_block(bytes data not None, Py_ssize_t size_max):
    """Return the content of an S2 or Snappy block.

    Raises:
        ValueError: it is damaged, or its content is longer than `size_max` bytes.
    """
    cdef const uint8_t *source = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t at = 0
    cdef uint64_t content = 0
    cdef int shift = 0
    cdef bytes out
    while True:
        if at == size or shift > 35:
            raise ValueError("block without a length")
        content |= <uint64_t>(source[at] & 0x7F) << shift
        at += 1
        shift += 7
        if source[at - 1] < 0x80:
            break
    if content > <uint64_t>size_max:
        raise ValueError(f"block of {content} bytes, the most is {size_max}")
    out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>content)
    if decode(source + at, size - at, <uint8_t *>PyBytes_AS_STRING(out), <Py_ssize_t>content) < 0:
        raise ValueError("damaged block")
    return out


cdef inline uint32_t load32(const uint8_t *at) noexcept nogil:
    cdef uint32_t word
    memcpy(&word, at, 4)
    return word


cdef inline uint8_t *put_literal(uint8_t *target, const uint8_t *start, Py_ssize_t length) noexcept nogil:
    """Write a literal of 1..65536 bytes; return where it ends."""
    cdef Py_ssize_t less = length - 1
    if less < 60:
        target[0] = <uint8_t>(less << 2)
        target += 1
    elif less < 256:
        target[0], target[1] = 60 << 2, <uint8_t>less
        target += 2
    else:
        target[0], target[1], target[2] = 61 << 2, <uint8_t>less, <uint8_t>(less >> 8)
        target += 3
    memcpy(target, start, <size_t>length)
    return target + length


cdef inline uint8_t *put_copy(uint8_t *target, Py_ssize_t offset, Py_ssize_t length) noexcept nogil:
    """Write copies that stand for `length` >= 4 bytes, `offset` 1..65535 back; return where they end."""
    cdef Py_ssize_t part
    while length > 0:
        # What is left must not be shorter than 4: the shortest copy of one byte's offset.
        part = 64 if length >= 68 else length if length <= 64 else 60
        if 4 <= part <= 11 and offset < 2048:
            target[0] = <uint8_t>(1 | (part - 4) << 2 | (offset >> 8) << 5)
            target[1] = <uint8_t>offset
            target += 2
        else:
            target[0] = <uint8_t>(2 | (part - 1) << 2)
            target[1], target[2] = <uint8_t>offset, <uint8_t>(offset >> 8)
            target += 3
        length -= part
    return target


cdef Py_ssize_t encode(const uint8_t *source, Py_ssize_t size, uint8_t *target, uint16_t *table) noexcept nogil:
    """Write the block of `size` <= BLOCK_BYTES_MAX bytes; return its length.

    `target` has room for size + size / 6 + 32 bytes.
    """
    cdef uint8_t *out = target
    cdef uint64_t rest = <uint64_t>size
    cdef Py_ssize_t at = 1
    cdef Py_ssize_t emitted = 0     # everything before is written
    cdef Py_ssize_t misses = 32     # a step grows by one per 32 misses: what does not compress goes fast
    cdef Py_ssize_t candidate, length
    cdef uint32_t hash
    while rest >= 0x80:
        out[0] = <uint8_t>(rest | 0x80)
        out += 1
        rest >>= 7
    out[0] = <uint8_t>rest
    out += 1
    memset(table, 0, sizeof(uint16_t) << HASH_BITS)
    while at + 4 <= size:
        hash = (load32(source + at) * <uint32_t>0x1E35A7BD) >> (32 - HASH_BITS)
        candidate = table[hash]
        table[hash] = <uint16_t>at
        # A slot that nobody wrote says 0, which is a fair candidate too.
        if load32(source + candidate) != load32(source + at):
            at += misses >> 5
            misses += 1
            continue
        length = 4
        while at + length < size and source[candidate + length] == source[at + length]:
            length += 1
        if at > emitted:
            out = put_literal(out, source + emitted, at - emitted)
        out = put_copy(out, at - candidate, length)
        at += length
        emitted = at
        misses = 32
    if size > emitted:
        out = put_literal(out, source + emitted, size - emitted)
    return out - target


cdef Py_ssize_t decode(const uint8_t *source, Py_ssize_t size, uint8_t *target,
                       Py_ssize_t target_size) noexcept nogil:
    """Undo a block's elements into exactly `target_size` bytes; -1: the block is damaged.

    Every length and offset is checked against both buffers before it is used.
    """
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t made = 0
    cdef Py_ssize_t offset = 0
    cdef Py_ssize_t length, extra, index
    cdef uint8_t tag
    while at < size:
        tag = source[at]
        at += 1
        if tag & 3 == 0:
            length = tag >> 2
            if length >= 60:
                extra = length - 59
                if size - at < extra:
                    return -1
                length = 0
                for index in range(extra):
                    length |= <Py_ssize_t>source[at + index] << (8 * index)
                at += extra
            length += 1
            if length > size - at or length > target_size - made:
                return -1
            memcpy(target + made, source + at, <size_t>length)
            at += length
            made += length
            continue
        if tag & 3 == 1:
            if at == size:
                return -1
            length = tag >> 2 & 7
            index = (<Py_ssize_t>(tag >> 5) << 8) | source[at]
            at += 1
            if index:
                offset = index
            elif length > 4:
                extra = length - 4
                if size - at < extra:
                    return -1
                length = 4 if extra == 1 else 256 if extra == 2 else 65536
                for index in range(extra):
                    length += <Py_ssize_t>source[at + index] << (8 * index)
                at += extra
            length += 4
        else:
            extra = 2 if tag & 3 == 2 else 4
            if size - at < extra:
                return -1
            length = (tag >> 2) + 1
            offset = 0
            for index in range(extra):
                offset |= <Py_ssize_t>source[at + index] << (8 * index)
            at += extra
        if offset <= 0 or offset > made or length > target_size - made:
            return -1
        if offset >= length:
            memcpy(target + made, target + made - offset, <size_t>length)
        else:
            # The copy overlaps what it makes: byte by byte.
            for index in range(length):
                target[made + index] = target[made + index - offset]
        made += length
    return made if made == target_size else -1
