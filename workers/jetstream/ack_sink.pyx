# cython: language_level=3, embedsignature=True, wraparound=False
"""Acknowledgements of messages that consumers delivered.

One sink a stream takes what is published on $JS.ACK.<stream>.>, in either form of the subject:

    $JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<time>.<pending>
    $JS.ACK.<domain>.<account hash>.<stream>.<consumer>. and the same numbers; more tokens may follow

A plain acknowledgement is handled here; everything else it may say is the consumer's policy's affair.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from workers.jetstream.delivery cimport ConsumerCore
from workers.model cimport Message
from workers.octets cimport find_dots
from workers.outbox cimport send_message
from workers.sinks cimport Sink, message_payload, message_reply


cdef enum:
    TOKENS = 9                     # of the first form
    TOKENS_LONG = 11               # of the second, at least


cdef int64_t read_number(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Return the decimal number, or -1 if it is none."""
    cdef int64_t value = 0
    if at == end or end - at > 18:
        return -1
    while at < end:
        if at[0] < c"0" or at[0] > c"9":
            return -1
        value = 10 * value + at[0] - c"0"
        at += 1
    return value


cdef class AckSink(Sink):
    """Takes the acknowledgements of a stream's consumers."""

    def __init__(self, stream):
        """Serve the consumers of a stream."""
        self.stream = stream
        self.stream_name = stream.name.encode()
        self.acks = stream.engine.acks
        self.cores = {}

    def add(self, ConsumerCore core not None):
        """Serve one more consumer."""
        self.cores[core.name.encode()] = core
        self.last = None

    def remove(self, ConsumerCore core not None):
        """Take nothing more for a consumer."""
        self.cores.pop(core.name.encode(), None)
        self.last = None

    cdef int take(self, const Message* message) except -1:
        cdef uint32_t dots[TOKENS_LONG + 1]
        cdef const uint8_t* starts[TOKENS_LONG + 1]
        cdef const uint8_t* payload = message.tail + message.tail_length - 2 - message.size
        cdef uint32_t length = message.size
        cdef int tokens = 1 + find_dots(message.subject, message.subject_length, dots, TOKENS_LONG)
        cdef int i, name
        cdef int64_t sequence, consumer_sequence
        cdef ConsumerCore core
        # Either form: with domain and account before the stream, and perhaps more tokens at the end, or without.
        name = 3 if tokens == TOKENS else 5
        if tokens != TOKENS and tokens < TOKENS_LONG:
            return 0
        for i in range(tokens - 1):
            starts[i + 1] = message.subject + dots[i] + 1
        # The second form's pattern also meets the first form of other streams, where a number is as this one's name.
        if not self.is_ours(starts[name - 1], <uint32_t>(starts[name] - starts[name - 1] - 1)):
            return 0
        core = self.core_of(starts[name], <uint32_t>(starts[name + 1] - starts[name] - 1))
        sequence = read_number(starts[name + 2], starts[name + 3] - 1)
        consumer_sequence = read_number(starts[name + 3], starts[name + 4] - 1)
        if core is None or not core.acknowledges:
            return self.refuse(message)
        if sequence <= 0 or consumer_sequence <= 0:
            return 0
        if message.header_size > 0:
            payload += message.header_size
            length -= <uint32_t>message.header_size
        if not (length == 0 or (length == 4 and memcmp(payload, b"+ACK", 4) == 0)
                or (length == 3 and memcmp(payload, b"+OK", 3) == 0)) or core.samples:
            core.policy.ack_command(message_payload(message), sequence, consumer_sequence,
                                    read_number(starts[name + 1], starts[name + 2] - 1), message_reply(message))
            return 0
        if <uint64_t>sequence > core.state.delivered_stream:
            return 0
        core.acknowledge_c(<uint64_t>sequence, <uint64_t>consumer_sequence)
        self.touch()
        if message.reply_length:
            self.answer(message.reply, message.reply_length)
        return 0

    cdef bint is_ours(self, const uint8_t* name, uint32_t length):
        return length == <uint32_t>len(self.stream_name) and memcmp(name, <const uint8_t*>self.stream_name, length) == 0

    cdef ConsumerCore core_of(self, const uint8_t* name, uint32_t length):
        if self.last is not None and length == <uint32_t>len(self.last_name) \
                and memcmp(name, <const uint8_t*>self.last_name, length) == 0:
            return self.last
        self.last_name = name[:length]
        self.last = self.cores.get(self.last_name)
        return self.last

    cdef int touch(self) except -1:
        """Have the round's end commit, and the consumers looked at."""
        if self.touched_take != self.acks.takes:
            self.touched_take = self.acks.takes
            self.stream.ingest.touch()
        return 0

    cdef int refuse(self, const Message* message) except -1:
        """Answer as if nobody listened: the consumer is gone, or takes no acknowledgements."""
        cdef bytes block = b"NATS/1.0 503\r\nNats-Subject: %b\r\n\r\n" % message.subject[:message.subject_length]
        if message.reply_length:
            send_message(self.plane, self.account, message.reply, message.reply_length, NULL, 0,
                         <const uint8_t*>block, <uint32_t>len(block), NULL, 0)
        return 0

    cdef int answer(self, const uint8_t* reply, uint32_t length) except -1:
        """Confirm an acknowledgement once it is durable."""
        if self.stream.is_durable:
            return self.acks.add(self.account, reply, length, NULL, 0)
        send_message(self.plane, self.account, reply, length, NULL, 0, NULL, 0, NULL, 0)
        return 0
