# cython: language_level=3, embedsignature=True, wraparound=False
"""How far one consumer of a stream has come: delivered, ack floor, pending and redelivered messages.

Every change is packed into `changes` (33 bytes: kind, then a, b, c as u64 and d as i64, little-endian),
which becomes one record of the stream's control log with the next commit; replaying the changes from a whole
state gives the same again.

    kind                 a                   b                 c            d
    1 delivered          consumer sequence   stream sequence   deliveries   Unix ns
    2 acknowledged       consumer sequence   stream sequence   –            –
    3 starts at          –                   stream sequence   –            –

The meaning is nats-server's ConsumerState: the consumer sequence counts deliveries, a pending message keeps
the consumer sequence of its first delivery, and below the ack floor everything is acknowledged.
"""

import struct
from collections import OrderedDict

from libc.stdint cimport uint8_t
from libc.string cimport memcpy

ACK_NONE = 0
ACK_ALL = 1
ACK_EXPLICIT = 2
STATE = struct.Struct("<IIQQQQ")
PENDING = struct.Struct("<QQq")
REDELIVERED = struct.Struct("<QQ")

cdef enum:
    DELIVERED = 1
    ACKNOWLEDGED = 2
    STARTS = 3
    CHANGE_BYTES = 33


cdef class ConsumerStore:
    """The state of one consumer."""

    def __init__(self, str name not None, uint32_t number, int ack_policy, bytes definition not None,
                 list changed=None,
                 control=None):
        """Make a consumer that has seen nothing.

        Args:
            changed: list that it puts itself into when it has changes; control: the log that keeps it.
        """
        self.name, self.number, self.ack_policy, self.definition = name, number, ack_policy, definition
        self.pending = OrderedDict()
        self.redelivered = {}
        self.changes = bytearray()
        self.changed, self.control = changed, control

    cdef int note(self, int kind, uint64_t a, uint64_t b, uint64_t c, int64_t d) except -1:
        cdef uint8_t packed[CHANGE_BYTES]
        packed[0] = <uint8_t>kind
        memcpy(packed + 1, &a, 8)
        memcpy(packed + 9, &b, 8)
        memcpy(packed + 17, &c, 8)
        memcpy(packed + 25, &d, 8)
        self.changes.extend((<const uint8_t *>packed)[:CHANGE_BYTES])
        if not self.is_changed and self.changed is not None:
            self.is_changed = True
            self.changed.append(self)
        return 0

    def take_changes(self):
        """Return the packed changes since the last time, for the log."""
        taken, self.changes = bytes(self.changes), bytearray()
        self.is_changed = False
        return taken

    def start_at(self, uint64_t stream_sequence):
        """Set where a new consumer begins: everything up to this stream sequence counts as delivered and
        acknowledged."""
        self.delivered_stream = self.floor_stream = stream_sequence
        self.note(STARTS, 0, stream_sequence, 0, 0)

    def delivered(self, uint64_t consumer_sequence, uint64_t stream_sequence, uint64_t deliveries,
                  int64_t timestamp_ns):
        """Note a delivery.

        Args:
            deliveries: of this message so far, this one included; from 1.
            timestamp_ns: Unix time of it, from which the ack wait counts.
        """
        self.apply_delivered(consumer_sequence, stream_sequence, deliveries, timestamp_ns)
        self.note(DELIVERED, consumer_sequence, stream_sequence, deliveries, timestamp_ns)

    def ack(self, uint64_t consumer_sequence, uint64_t stream_sequence):
        """Note an acknowledgement (or a TERM); with ACK_ALL of everything up to it. One for nothing pending
        is ignored."""
        self.apply_ack(consumer_sequence, stream_sequence)
        self.note(ACKNOWLEDGED, consumer_sequence, stream_sequence, 0, 0)

    cdef int apply_delivered(self, uint64_t consumer_sequence, uint64_t sequence, uint64_t count,
                             int64_t ts) except -1:
        self.delivered_consumer = max(self.delivered_consumer, consumer_sequence)
        self.delivered_stream = max(self.delivered_stream, sequence)
        if self.ack_policy == ACK_NONE:
            self.floor_consumer, self.floor_stream = self.delivered_consumer, self.delivered_stream
            return 0
        known = self.pending.get(sequence)
        # A redelivery keeps the consumer sequence of the first delivery, and its place in the order.
        self.pending[sequence] = (consumer_sequence if known is None else known[0], ts)
        if count > 1:
            self.redelivered[sequence] = count - 1
        return 0

    cdef int apply_ack(self, uint64_t consumer_sequence, uint64_t sequence) except -1:
        if self.ack_policy == ACK_ALL:
            while self.pending:
                oldest = next(iter(self.pending))
                if oldest > sequence:
                    break
                del self.pending[oldest]
                self.redelivered.pop(oldest, None)
            self.floor_consumer = max(self.floor_consumer, consumer_sequence)
            self.floor_stream = max(self.floor_stream, sequence)
            return 0
        if self.pending.pop(sequence, None) is None:
            return 0
        self.redelivered.pop(sequence, None)
        return self.raise_floor()

    cdef int raise_floor(self) except -1:
        """Move the ack floor to just below the oldest pending message, or to what was delivered."""
        if not self.pending:
            self.floor_consumer, self.floor_stream = self.delivered_consumer, self.delivered_stream
            return 0
        oldest = next(iter(self.pending))
        self.floor_stream = max(self.floor_stream, <uint64_t>oldest - 1)
        self.floor_consumer = max(self.floor_consumer, <uint64_t>self.pending[oldest][0] - 1)
        return 0

    def state(self):
        """Return the state as plain values: two (consumer, stream) pairs, pending and redelivered as
        dicts."""
        return {
            "delivered": (self.delivered_consumer, self.delivered_stream),
            "ack_floor": (self.floor_consumer, self.floor_stream),
            "pending": dict(self.pending),
            "redelivered": dict(self.redelivered),
        }

    def export(self):
        """Return the whole state as bytes for the control log."""
        parts = [STATE.pack(len(self.pending), len(self.redelivered), self.delivered_consumer,
                            self.delivered_stream,
                            self.floor_consumer, self.floor_stream)]
        parts.extend(PENDING.pack(sequence, *one) for sequence, one in self.pending.items())
        parts.extend(REDELIVERED.pack(*pair) for pair in self.redelivered.items())
        return b"".join(parts)

    def restore(self, bytes data not None):
        """Take a state that `export` packed."""
        pending, redelivered, *counters = STATE.unpack_from(data)
        self.delivered_consumer, self.delivered_stream, self.floor_consumer, self.floor_stream = counters
        at = STATE.size + PENDING.size * pending
        self.pending = OrderedDict(
            (sequence, (first, ts)) for sequence, first, ts in PENDING.iter_unpack(data[STATE.size:at]))
        self.redelivered = dict(REDELIVERED.iter_unpack(data[at:at + REDELIVERED.size * redelivered]))

    def replay(self, bytes data not None):
        """Apply packed changes again."""
        cdef Py_ssize_t at = 0
        cdef const uint8_t *start = <const uint8_t *><char *>data
        cdef uint64_t a, b, c
        cdef int64_t d
        while at + CHANGE_BYTES <= len(data):
            memcpy(&a, start + at + 1, 8)
            memcpy(&b, start + at + 9, 8)
            memcpy(&c, start + at + 17, 8)
            memcpy(&d, start + at + 25, 8)
            if start[at] == DELIVERED:
                self.apply_delivered(a, b, c, d)
            elif start[at] == ACKNOWLEDGED:
                self.apply_ack(a, b)
            elif start[at] == STARTS:
                self.delivered_stream = self.floor_stream = b
            at += CHANGE_BYTES
