# cython: language_level=3, embedsignature=True, wraparound=False
"""How far one consumer of a stream has come: delivered, ack floor, pending and redelivered messages.

The meaning is nats-server's ConsumerState: the consumer sequence counts deliveries, a pending message keeps
the consumer sequence of its first delivery, and below the ack floor everything is acknowledged. The pending
messages themselves lie in storage/pending.pyx; no delivery and no acknowledgement makes a Python object. A
message given up is pending no more and stays known until it is acknowledged after all, as nats-server keeps it
among those redelivered.

Every change is packed. `take_changes` gives what came since the last time, which becomes one record of the
stream's control log with the next commit:

    version 1, one byte | serial, from 1 | changes

and a whole state (`export`) is

    version 1, one byte | serial | delivered: consumer, stream | ack floor: consumer, stream
    | the pending messages, oldest delivery first, as changes of kind 1 and 2 | what is given up, of kind 7

A number is a varint (7 bits a byte, the lowest first; bit 7 says that another byte follows). A change is a
tag, bits 0 to 2 its kind, and up to four numbers, each there when its bit of the tag is set, else 0:

    bit 3  count less one: of messages that follow each other in both sequences; kind 2: of its deliveries
    bit 4  consumer sequence (kinds 1, 2, 4)    less what was expected: that of the change of this kind
    bit 5  stream sequence                      before, or of the last one of its run, plus one; 0 at first
    bit 6  Unix ns (kinds 1, 2)                 less that of the delivery before; 0 at first

The last three are signed differences modulo 2^64, as 2 n, or -2 n - 1 below zero. So deliveries that follow
each other at one time are one change of a few bytes, and so are acknowledgements in order.

    kind                       kind                                       kind
    1 first deliveries         3 acknowledged, one by one                 5 starts at
    2 redelivery               4 acknowledged up to (ACK_ALL)             6 reset
                                                          7 given up, one by one

Replaying twice does no harm: each record has a serial, the state remembers the last one that it contains,
and a record with this or a lower one is passed over.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from storage.errors import FileDamaged

ACK_NONE = 0
ACK_ALL = 1
ACK_EXPLICIT = 2

cdef enum:
    NOBODY_ACKS = 0             # ACK_NONE and ACK_ALL for C
    ACKS_ARE_CUMULATIVE = 1
    DELIVERED = 1
    REDELIVERED = 2
    ACKNOWLEDGED = 3
    ACKNOWLEDGED_ALL = 4
    STARTS = 5
    RESET = 6
    GIVEN_UP = 7
    KIND_MASK = 7
    HAS_COUNT = 8
    HAS_CONSUMER = 16
    HAS_SEQUENCE = 32
    HAS_TIMESTAMP = 64
    VERSION = 1
    NUMBER_BYTES_MAX = 10
    CHANGE_BYTES_MAX = 1 + 4 * NUMBER_BYTES_MAX
    KEPT_BYTES_MAX = 1 << 16    # more is given back when the changes are taken

ctypedef struct reader_t:
    const uint8_t *at
    const uint8_t *end


cdef inline uint64_t folded(uint64_t difference) noexcept nogil:
    return (difference << 1) ^ (0 - (difference >> 63))


cdef inline uint64_t unfolded(uint64_t number) noexcept nogil:
    return (number >> 1) ^ (0 - (number & 1))


cdef inline uint8_t *put_number(uint8_t *at, uint64_t number) noexcept nogil:
    while number >= 0x80:
        at[0] = <uint8_t>(number | 0x80)
        at += 1
        number >>= 7
    at[0] = <uint8_t>number
    return at + 1


cdef int reserve(changes_t *changes, size_t size) except -1:
    """Make room for `size` more bytes, at most CHANGE_BYTES_MAX."""
    cdef size_t capacity = changes.capacity * 2 + 2 * CHANGE_BYTES_MAX
    cdef uint8_t *data
    if changes.size + size <= changes.capacity:
        return 0
    data = <uint8_t *>realloc(changes.data, capacity)
    if data == NULL:
        raise MemoryError
    changes.data, changes.capacity = data, capacity
    return 0


cdef int put_head(changes_t *changes, uint64_t serial) except -1:
    """Begin a record or a state."""
    reserve(changes, CHANGE_BYTES_MAX)
    changes.data[0] = VERSION
    changes.size = put_number(changes.data + 1, serial) - changes.data
    return 0


cdef inline void expect(expected_t *expected, uint32_t kind, uint64_t count, uint64_t consumer_sequence,
                        uint64_t sequence, int64_t timestamp_ns) noexcept nogil:
    """Set what is expected behind a change."""
    cdef uint64_t step = 1 if kind == REDELIVERED else count
    expected.consumer[kind] = consumer_sequence + step
    expected.sequence[kind] = sequence + step
    expected.timestamp_ns = timestamp_ns


cdef int end_run(changes_t *changes) except -1:
    """Pack the run."""
    cdef uint32_t kind = changes.kind
    cdef expected_t *expected = &changes.expected
    cdef uint64_t difference
    cdef uint8_t *at
    cdef uint8_t tag = <uint8_t>kind
    if kind == 0:
        return 0
    reserve(changes, CHANGE_BYTES_MAX)
    at = changes.data + changes.size + 1
    if changes.count != 1:
        tag |= HAS_COUNT
        at = put_number(at, changes.count - 1)
    difference = changes.consumer - expected.consumer[kind]
    if difference != 0 and kind != ACKNOWLEDGED and kind != GIVEN_UP:
        tag |= HAS_CONSUMER
        at = put_number(at, folded(difference))
    difference = changes.sequence - expected.sequence[kind]
    if difference != 0:
        tag |= HAS_SEQUENCE
        at = put_number(at, folded(difference))
    difference = <uint64_t>changes.timestamp_ns - <uint64_t>expected.timestamp_ns
    if difference == 0 or kind > REDELIVERED:
        changes.timestamp_ns = expected.timestamp_ns
    else:
        tag |= HAS_TIMESTAMP
        at = put_number(at, folded(difference))
    changes.data[changes.size] = tag
    changes.size = at - changes.data
    expect(expected, kind, changes.count, changes.consumer, changes.sequence, changes.timestamp_ns)
    changes.kind = 0
    return 0


cdef inline int put_change(changes_t *changes, uint32_t kind, uint64_t count, uint64_t consumer_sequence,
                           uint64_t sequence, int64_t timestamp_ns) except -1:
    """Make the run longer, or end it and begin another."""
    if (changes.kind == kind and sequence == changes.sequence + changes.count and kind != REDELIVERED
            and consumer_sequence == changes.consumer + changes.count
            and (timestamp_ns == changes.timestamp_ns or kind != DELIVERED)):
        changes.count += 1
        return 0
    end_run(changes)
    changes.kind, changes.count = kind, count
    changes.consumer, changes.sequence, changes.timestamp_ns = consumer_sequence, sequence, timestamp_ns
    return 0


cdef bytes take_packed(changes_t *changes):
    """Return the packed bytes, and have none any more."""
    cdef bytes taken
    end_run(changes)
    taken = PyBytes_FromStringAndSize(<char *>changes.data, <Py_ssize_t>changes.size)
    changes.size = 0
    memset(&changes.expected, 0, sizeof(expected_t))
    if changes.capacity > KEPT_BYTES_MAX:
        free(changes.data)
        changes.data, changes.capacity = NULL, 0
    return taken


cdef int read_number(reader_t *reader, uint64_t *number) except -1:
    cdef uint32_t shift = 0
    cdef uint64_t byte
    number[0] = 0
    while reader.at < reader.end and shift < 64:
        byte = reader.at[0]
        reader.at += 1
        number[0] |= (byte & 0x7F) << shift
        if byte < 0x80:
            return 0
        shift += 7
    raise FileDamaged("packed state of a consumer ends within a number")


cdef int read_head(reader_t *reader, bytes data, uint64_t *serial) except -1:
    """Begin to read a record or a state."""
    reader.at = <const uint8_t *>PyBytes_AS_STRING(data)
    reader.end = reader.at + PyBytes_GET_SIZE(data)
    if reader.at == reader.end or reader.at[0] != VERSION:
        raise FileDamaged(f"packed state of a consumer begins with {data[:1].hex()!r}, not with {VERSION:02x}")
    reader.at += 1
    return read_number(reader, serial)


cdef int read_change(reader_t *reader, changes_t *one) except -1:
    """Read one change into the run of `one`, whose `expected` tells what came before; its `data` is not
    used."""
    cdef uint8_t tag = reader.at[0]
    cdef uint32_t kind = tag & KIND_MASK
    cdef uint64_t numbers[4]
    cdef int index
    reader.at += 1
    for index in range(4):
        numbers[index] = 0
        if tag & (HAS_COUNT << index):
            read_number(reader, numbers + index)
    one.kind, one.count = kind, numbers[0] + 1
    one.consumer = one.expected.consumer[kind] + unfolded(numbers[1])
    one.sequence = one.expected.sequence[kind] + unfolded(numbers[2])
    one.timestamp_ns = <int64_t>(<uint64_t>one.expected.timestamp_ns + unfolded(numbers[3]))
    expect(&one.expected, kind, one.count, one.consumer, one.sequence, one.timestamp_ns)
    return 0


@cython.final
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
        self.messages = PendingMessages()
        self.given_up = set()
        self.changed, self.control = changed, control

    def __dealloc__(self):
        free(self.changes.data)

    # ---- what happens to it

    cdef int delivered_c(self, uint64_t consumer_sequence, uint64_t sequence, uint32_t deliveries,
                         int64_t timestamp_ns) except -1:
        self.apply_delivered(consumer_sequence, sequence, deliveries, timestamp_ns)
        self.mark_changed()
        return put_change(&self.changes, REDELIVERED if deliveries > 1 else DELIVERED, max(deliveries, 1),
                          consumer_sequence, sequence, timestamp_ns)

    cdef int ack_c(self, uint64_t consumer_sequence, uint64_t sequence) except -1:
        cdef uint64_t before = self.pending_count
        cdef uint64_t floor_consumer = self.floor_consumer
        cdef uint64_t floor_stream = self.floor_stream
        if self.ack_policy == ACKS_ARE_CUMULATIVE:
            self.apply_ack_all(consumer_sequence, sequence)
            if (before != self.pending_count or floor_consumer != self.floor_consumer
                    or floor_stream != self.floor_stream):
                self.mark_changed()
                put_change(&self.changes, ACKNOWLEDGED_ALL, 1, consumer_sequence, sequence, 0)
        elif self.apply_ack(sequence):
            self.mark_changed()
            # The consumer sequence plays no part in it: this one makes acknowledgements in order one run.
            put_change(&self.changes, ACKNOWLEDGED, 1, sequence, sequence, 0)
        return <int>(before - self.pending_count)

    cdef int give_up_c(self, uint64_t sequence) except -1:
        """Give one message up, whatever the ack policy; return 1, or 0: it is not pending."""
        cdef uint64_t before = self.pending_count
        self.apply_give_up(sequence)
        if before == self.pending_count:
            return 0
        self.mark_changed()
        put_change(&self.changes, GIVEN_UP, 1, sequence, sequence, 0)
        return 1

    def give_up(self, uint64_t stream_sequence):
        """Note that a pending message will not be delivered again, as it was as often as it may be.

        It is in `given_up` until it is acknowledged or the consumer reset. Whoever knows that it is gone takes it
        out, also after a restart: that is not logged.

        Returns:
            1, or 0: it is not pending.
        """
        return self.give_up_c(stream_sequence)

    cpdef int restart_wait(self, uint64_t sequence, int64_t timestamp_ns) except -1:
        """Let the ack wait of a pending message count from now; that is not logged.

        Returns:
            1, or 0: it is not pending.
        """
        cdef uint32_t link = self.messages.find(sequence)
        if link == 0:
            return 0
        self.messages.touch(link, self.messages.at(link).deliveries, timestamp_ns)
        return 1

    cdef int reset_c(self, uint64_t sequence) except -1:
        self.apply_reset(sequence)
        self.mark_changed()
        return put_change(&self.changes, RESET, 1, 0, sequence, 0)

    def start_at(self, uint64_t stream_sequence):
        """Set where a new consumer begins: everything up to this stream sequence counts as delivered and
        acknowledged."""
        self.apply(STARTS, 1, 0, stream_sequence, 0)
        self.mark_changed()
        put_change(&self.changes, STARTS, 1, 0, stream_sequence, 0)

    def delivered(self, uint64_t consumer_sequence, uint64_t stream_sequence, uint32_t deliveries,
                  int64_t timestamp_ns):
        """Note a delivery. Messages are delivered for the first time in the order of their sequences.

        Args:
            deliveries: of this message so far, this one included; from 1.
            timestamp_ns: Unix time of it, from which the ack wait counts.
        """
        self.delivered_c(consumer_sequence, stream_sequence, deliveries, timestamp_ns)

    def ack(self, uint64_t consumer_sequence, uint64_t stream_sequence):
        """Note an acknowledgement (or a TERM); with ACK_ALL of everything up to it. One for nothing pending
        is ignored.

        Returns:
            How many pending messages it acknowledged.
        """
        return self.ack_c(consumer_sequence, stream_sequence)

    def reset(self, uint64_t stream_sequence):
        """Begin anew with the message of this stream sequence: nothing is pending, and the consumer
        sequence starts at 0."""
        self.reset_c(stream_sequence)

    cdef int mark_changed(self) except -1:
        """Be in the list of consumers with changes, with a record begun."""
        if self.is_changed:
            return 0
        put_head(&self.changes, self.serial + 1)
        if self.changed is not None:
            self.changed.append(self)
        self.is_changed = True
        return 0

    # ---- what it means

    cdef int apply(self, uint32_t kind, uint64_t count, uint64_t consumer_sequence, uint64_t sequence,
                   int64_t timestamp_ns) except -1:
        """Apply one packed change."""
        cdef uint64_t index
        if kind == DELIVERED:
            for index in range(count):
                self.apply_delivered(consumer_sequence + index, sequence + index, 1, timestamp_ns)
        elif kind == REDELIVERED:
            self.apply_delivered(consumer_sequence, sequence, <uint32_t>count, timestamp_ns)
        elif kind == ACKNOWLEDGED:
            for index in range(count):
                self.apply_ack(sequence + index)
        elif kind == ACKNOWLEDGED_ALL:
            for index in range(count):
                self.apply_ack_all(consumer_sequence + index, sequence + index)
        elif kind == GIVEN_UP:
            for index in range(count):
                self.apply_give_up(sequence + index)
        elif kind == STARTS:
            self.delivered_stream = self.floor_stream = sequence
        elif kind == RESET:
            self.apply_reset(sequence)
        else:
            raise FileDamaged(f"packed state of consumer {self.name}: change of kind {kind}")
        return 0

    cdef int apply_delivered(self, uint64_t consumer_sequence, uint64_t sequence, uint32_t deliveries,
                             int64_t timestamp_ns) except -1:
        cdef PendingMessages messages = self.messages
        cdef uint32_t link = 0
        cdef bint is_highest = messages.count == 0 or sequence > messages.at(messages.highest_link).sequence
        self.delivered_consumer = max(self.delivered_consumer, consumer_sequence)
        self.delivered_stream = max(self.delivered_stream, sequence)
        if self.ack_policy == NOBODY_ACKS:
            self.floor_consumer, self.floor_stream = self.delivered_consumer, self.delivered_stream
            return 0
        if not is_highest:
            link = messages.find(sequence)
        if link == 0:
            link = messages.append(sequence, consumer_sequence, max(deliveries, 1), timestamp_ns)
            self.pending_count = messages.count
            if not is_highest:
                messages.sink(link)
        elif deliveries > 1:
            # A redelivery keeps the consumer sequence of the first delivery, and its place by sequence.
            messages.touch(link, deliveries, timestamp_ns)
        else:
            messages.touch(link, messages.at(link).deliveries, timestamp_ns)
        return 0

    cdef int apply_ack(self, uint64_t sequence) except -1:
        """Acknowledge one message; return 1, or 0: it is neither pending nor given up."""
        cdef uint32_t link = self.messages.find(sequence)
        cdef uint64_t first_delivery
        if link == 0:
            if len(self.given_up) == 0 or sequence not in self.given_up:
                return 0
            self.given_up.discard(sequence)
            return 1
        first_delivery = self.messages.at(link).consumer_sequence
        self.messages.remove(link)
        self.pending_count = self.messages.count
        self.raise_floor(first_delivery)
        return 1

    cdef int apply_ack_all(self, uint64_t consumer_sequence, uint64_t sequence) except -1:
        cdef PendingMessages messages = self.messages
        if consumer_sequence <= self.floor_consumer or sequence <= self.floor_stream:
            return 0
        while messages.count and messages.at(messages.lowest_link).sequence <= sequence:
            messages.remove(messages.lowest_link)
        self.pending_count = messages.count
        self.floor_consumer, self.floor_stream = consumer_sequence, sequence
        self.given_up.discard(sequence)
        return 0

    cdef int apply_give_up(self, uint64_t sequence) except -1:
        """Remember that one message is given up, and leave the floor where it is: it was not acknowledged."""
        cdef uint32_t link = self.messages.find(sequence)
        if link == 0:
            return 0
        self.messages.remove(link)
        self.pending_count = self.messages.count
        self.given_up.add(sequence)
        return 0

    cdef int apply_reset(self, uint64_t sequence) except -1:
        self.messages.clear()
        self.given_up.clear()
        self.pending_count = 0
        self.delivered_consumer = self.floor_consumer = 0
        self.delivered_stream = self.floor_stream = sequence - 1 if sequence else 0
        return 0

    cdef int raise_floor(self, uint64_t consumer_sequence) noexcept:
        """Move the ack floor after a message is pending no more.

        To what was delivered when nothing is pending; to just below the lowest pending message when this was
        the one above the floor; else it stays, even where what lies between was never delivered.
        """
        cdef pending_t *lowest = self.lowest()
        if lowest == NULL:
            self.floor_consumer, self.floor_stream = self.delivered_consumer, self.delivered_stream
            return 0
        if consumer_sequence == self.floor_consumer + 1:
            self.floor_stream = max(self.floor_stream, lowest.sequence - 1)
            self.floor_consumer = max(self.floor_consumer, lowest.consumer_sequence - 1)
        return 0

    # ---- what is pending

    cdef pending_t *find(self, uint64_t sequence) noexcept:
        return self.messages.at_or_null(self.messages.find(sequence))

    cdef pending_t *lowest(self) noexcept:
        return self.messages.at_or_null(self.messages.lowest_link)

    cdef pending_t *after(self, pending_t *one) noexcept:
        return self.messages.at_or_null(one.higher)

    cdef pending_t *oldest(self) noexcept:
        return self.messages.at_or_null(self.messages.oldest_link)

    cdef pending_t *younger(self, pending_t *one) noexcept:
        return self.messages.at_or_null(one.younger)

    def message(self, uint64_t stream_sequence):
        """Return (stream sequence, consumer sequence of the first delivery, deliveries, Unix ns of the last
        delivery) of a pending message, or None."""
        cdef pending_t *one = self.find(stream_sequence)
        if one == NULL:
            return None
        return one.sequence, one.consumer_sequence, one.deliveries, one.timestamp_ns

    @property
    def pending(self):
        """A new dict: stream sequence, lowest first → (consumer sequence of the first delivery, Unix ns of
        the last delivery)."""
        cdef dict pending = {}
        cdef pending_t *one = self.lowest()
        while one != NULL:
            pending[one.sequence] = (one.consumer_sequence, one.timestamp_ns)
            one = self.after(one)
        return pending

    @property
    def redelivered(self):
        """A new dict: stream sequence → deliveries beyond the first, of pending messages that had some."""
        cdef dict redelivered = {}
        cdef pending_t *one = self.lowest()
        while one != NULL:
            if one.deliveries > 1:
                redelivered[one.sequence] = one.deliveries - 1
            one = self.after(one)
        return redelivered

    @property
    def redelivered_count(self):
        """How many pending messages were delivered more than once."""
        return self.messages.redelivered

    @property
    def oldest_first(self):
        """The stream sequences of the pending messages, the longest since its last delivery first."""
        cdef list sequences = []
        cdef pending_t *one = self.oldest()
        while one != NULL:
            sequences.append(one.sequence)
            one = self.younger(one)
        return sequences

    @property
    def memory_bytes(self):
        """What pending messages and changes that are not in the log yet have allocated."""
        return self.messages.memory_bytes() + self.changes.capacity

    def state(self):
        """Return the state as plain values: two (consumer, stream) pairs, pending and redelivered as
        dicts."""
        return {
            "delivered": (self.delivered_consumer, self.delivered_stream),
            "ack_floor": (self.floor_consumer, self.floor_stream),
            "pending": self.pending,
            "redelivered": self.redelivered,
        }

    def set_state(self, dict state not None):
        """Become what `state` tells; `ControlLog.keep_state` makes that last.

        Redelivered messages that are not pending are given up. With ACK_NONE nothing is pending or given up.
        """
        cdef PendingMessages messages = self.messages
        cdef dict pending = state["pending"]
        cdef dict redelivered = state["redelivered"]
        self.delivered_consumer, self.delivered_stream = state["delivered"]
        self.floor_consumer, self.floor_stream = state["ack_floor"]
        messages.clear()
        self.given_up.clear()
        if self.ack_policy != NOBODY_ACKS:
            self.given_up.update(sequence for sequence in redelivered if sequence not in pending)
            for timestamp_ns, sequence, consumer_sequence in sorted(
                (delivery[1], sequence, delivery[0]) for sequence, delivery in pending.items()
            ):
                messages.append(sequence, consumer_sequence, redelivered.get(sequence, 0) + 1, timestamp_ns)
            messages.sort()
        self.pending_count = messages.count

    # ---- the log

    def take_changes(self):
        """Return the packed changes since the last time, for the log; b"": there are none."""
        if not self.is_changed:
            return b""
        taken = take_packed(&self.changes)
        self.serial += 1
        self.is_changed = False
        return taken

    def export(self):
        """Return the whole state as bytes for the control log.

        Changes that were not taken yet are part of it, and replaying the record that they come in does
        nothing: take them first, lest what follows them in that record be passed over too.
        """
        cdef changes_t packed
        cdef pending_t *one = self.oldest()
        cdef uint8_t *at
        memset(&packed, 0, sizeof(changes_t))
        try:
            put_head(&packed, self.serial + self.is_changed)
            reserve(&packed, CHANGE_BYTES_MAX)
            at = put_number(packed.data + packed.size, self.delivered_consumer)
            at = put_number(at, self.delivered_stream)
            at = put_number(at, self.floor_consumer)
            packed.size = put_number(at, self.floor_stream) - packed.data
            while one != NULL:
                put_change(&packed, REDELIVERED if one.deliveries > 1 else DELIVERED, one.deliveries,
                           one.consumer_sequence, one.sequence, one.timestamp_ns)
                one = self.younger(one)
            for sequence in sorted(self.given_up):
                put_change(&packed, GIVEN_UP, 1, sequence, sequence, 0)
            return take_packed(&packed)
        finally:
            free(packed.data)

    def restore(self, bytes data not None):
        """Take a state that `export` packed.

        Raises:
            FileDamaged: these are not such bytes, or of another version.
        """
        cdef reader_t reader
        cdef changes_t one
        cdef uint64_t index
        cdef uint64_t highest = 0
        cdef bint is_sorted = True
        cdef PendingMessages messages = self.messages
        memset(&one, 0, sizeof(changes_t))
        read_head(&reader, data, &self.serial)
        read_number(&reader, &self.delivered_consumer)
        read_number(&reader, &self.delivered_stream)
        read_number(&reader, &self.floor_consumer)
        read_number(&reader, &self.floor_stream)
        messages.clear()
        self.given_up.clear()
        while reader.at < reader.end:
            read_change(&reader, &one)
            if one.kind == GIVEN_UP:
                self.given_up.update(range(one.sequence, one.sequence + one.count))
                continue
            is_sorted = is_sorted and one.sequence > highest
            if one.kind == REDELIVERED:
                messages.append(one.sequence, one.consumer, <uint32_t>one.count, one.timestamp_ns)
                highest = one.sequence
            elif one.kind == DELIVERED:
                for index in range(one.count):
                    messages.append(one.sequence + index, one.consumer + index, 1, one.timestamp_ns)
                highest = one.sequence + one.count - 1
            else:
                raise FileDamaged(f"packed state of consumer {self.name}: change of kind {one.kind}")
        if not is_sorted:
            messages.sort()
        self.pending_count = messages.count

    def replay(self, bytes data not None):
        """Apply what `take_changes` packed, unless it is part of the state already.

        Raises:
            FileDamaged: these are not such bytes, or of another version.
        """
        cdef reader_t reader
        cdef changes_t one
        cdef uint64_t serial
        read_head(&reader, data, &serial)
        if serial <= self.serial:
            return
        memset(&one, 0, sizeof(changes_t))
        while reader.at < reader.end:
            read_change(&reader, &one)
            self.apply(one.kind, one.count, one.consumer, one.sequence, one.timestamp_ns)
        self.serial = serial
