# cython: language_level=3, embedsignature=True, wraparound=False
"""Messages into streams, and their acknowledgements back once they are durable.

A StreamIngest is the sink of one stream's subjects. It stores plain messages, and those whose only header for the
server is Nats-Msg-Id, without making a Python object; whatever asks for more goes to the stream's publisher, which
follows all of nats-server's rules. Both come to the same result where both could.

Acknowledgements wait in batches, one per round of the store: `Acks.committed` closes a batch with its round, and
`Acks.release` sends what has become durable, in the order of storing.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from storage.reader cimport message_id_of
from workers.dataplane cimport DataPlane
from workers.model cimport Message
from workers.octets cimport must_calloc, must_malloc, must_realloc, write_decimal
from workers.outbox cimport send_message
from workers.sinks cimport message_headers, message_payload, message_reply, message_subject

from storage.errors import StorageError


cdef extern from "<string.h>" nogil:
    void* memmem(const void* text, size_t length, const void* part, size_t part_length)


TOO_MANY_REQUESTS = b"NATS/1.0 429 Too Many Requests\r\n\r\n"


ctypedef struct ack_head_t:
    uint32_t account
    uint32_t reply_length
    uint32_t body_length


cdef enum:
    BATCH_BYTES = 1 << 16
    SPARE_BYTES_MAX = 1 << 20
    HEADERS_MAX = 65535            # more is refused, by the publisher
    ACK_BYTES = 1024               # names of stream and domain, at most 255 each, and the rest


cdef int64_t real_time_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef int server_headers(const uint8_t* headers, uint32_t length) noexcept nogil:
    """Return how many headers of a block are for the server, 2 for more than one."""
    cdef const uint8_t* found = <const uint8_t*>memmem(headers, length, <const char*>b"\r\nNats-", 7)
    if found is NULL:
        return 0
    found += 7
    return 1 if memmem(found, <size_t>(headers + length - found), <const char*>b"\r\nNats-", 7) is NULL else 2


# ---- acknowledgements ------------------------------------------------------------------------------------------

cdef class Acks:
    """Acknowledgements of one worker that wait until what they promise is durable."""

    def __cinit__(self, DataPlane data_plane):
        """Send by this data plane."""
        self.data_plane = data_plane
        self.plane = data_plane.plane
        self.touched = []
        self.takes = 1
        self.open = batch_new()

    def __dealloc__(self):
        cdef AckBatch* batch
        while self.first is not NULL:
            batch = self.first
            self.first = batch.next
            batch_free(batch)
        batch_free(self.open)
        batch_free(self.spare)

    cdef int add(self, uint32_t account, const uint8_t* reply, uint32_t reply_length, const uint8_t* body,
                 uint32_t body_length) except -1:
        cdef AckBatch* batch = self.open
        cdef uint64_t need = sizeof(ack_head_t) + reply_length + body_length
        cdef ack_head_t head
        if batch.capacity - batch.used < need:
            batch.capacity = 2 * (batch.capacity + need)
            batch.data = <uint8_t*>must_realloc(batch.data, batch.capacity)
        head.account = account
        head.reply_length = reply_length
        head.body_length = body_length
        memcpy(batch.data + batch.used, &head, sizeof(ack_head_t))
        memcpy(batch.data + batch.used + sizeof(ack_head_t), reply, reply_length)
        memcpy(batch.data + batch.used + sizeof(ack_head_t) + reply_length, body, body_length)
        batch.used += need
        batch.count += 1
        self.waiting += 1
        return 0

    def acknowledge(self, uint32_t account, bytes reply, bytes body, bint is_durable):
        """Send `body` to `reply`: at once, or if `is_durable` when everything appended so far is."""
        if is_durable:
            self.add(account, reply, <uint32_t>len(reply), body, <uint32_t>len(body))
        else:
            send_message(self.plane, account, reply, <uint32_t>len(reply), NULL, 0, NULL, 0, body,
                         <uint64_t>len(body))

    def committed(self, uint64_t round_number):
        """Note in which round of the store everything acknowledged so far becomes durable."""
        cdef AckBatch* batch = self.open
        if batch.count == 0:
            return
        batch.round = round_number
        if self.last is not NULL and self.last.round == round_number and self.last.used + batch.used <= SPARE_BYTES_MAX:
            # The round has not begun: what came later goes with it.
            batch_join(self.last, batch)
            return
        if self.last is NULL:
            self.first = batch
        else:
            self.last.next = batch
        self.last = batch
        if self.spare is not NULL:
            self.open = self.spare
            self.spare = NULL
        else:
            self.open = batch_new()

    def release(self, uint64_t durable_round):
        """Send what waited for this round or an earlier one; return how many there were."""
        cdef AckBatch* batch
        cdef uint64_t sent = 0
        while self.first is not NULL and self.first.round <= durable_round:
            batch = self.first
            self.first = batch.next
            if self.first is NULL:
                self.last = NULL
            send_batch(self.plane, batch)
            sent += batch.count
            self.waiting -= batch.count
            if self.spare is NULL and batch.capacity <= SPARE_BYTES_MAX:
                batch.used = batch.count = 0
                batch.next = NULL
                self.spare = batch
            else:
                batch_free(batch)
        return sent

    def refuse_all(self, bytes body):
        """Send `body` instead of every acknowledgement that waits: the store has failed."""
        cdef AckBatch* batch
        self.committed(0)
        while self.first is not NULL:
            batch = self.first
            self.first = batch.next
            send_refusals(self.plane, batch, body)
            self.waiting -= batch.count
            batch_free(batch)
        self.last = NULL

    def take_touched(self):
        """Return the streams that have stored something since the last call."""
        cdef StreamIngest ingest
        taken = []
        self.takes += 1
        for ingest in self.touched:
            ingest.is_touched = False
            taken.append(ingest.stream)
        self.touched.clear()
        return taken


cdef AckBatch* batch_new() noexcept nogil:
    cdef AckBatch* batch = <AckBatch*>must_calloc(1, sizeof(AckBatch))
    batch.capacity = BATCH_BYTES
    batch.data = <uint8_t*>must_malloc(BATCH_BYTES)
    return batch


cdef void batch_free(AckBatch* batch) noexcept nogil:
    if batch is not NULL:
        free(batch.data)
        free(batch)


cdef void batch_join(AckBatch* batch, AckBatch* more) noexcept nogil:
    """Move what `more` holds behind what `batch` holds."""
    if batch.capacity - batch.used < more.used:
        batch.capacity = 2 * (batch.used + more.used)
        batch.data = <uint8_t*>must_realloc(batch.data, batch.capacity)
    memcpy(batch.data + batch.used, more.data, more.used)
    batch.used += more.used
    batch.count += more.count
    more.used = more.count = 0


cdef void send_batch(Plane* plane, AckBatch* batch) noexcept nogil:
    cdef uint8_t* at = batch.data
    cdef uint8_t* end = at + batch.used
    cdef ack_head_t head
    while at < end:
        memcpy(&head, at, sizeof(ack_head_t))
        at += sizeof(ack_head_t)
        send_message(plane, head.account, at, head.reply_length, NULL, 0, NULL, 0, at + head.reply_length,
                     head.body_length)
        at += head.reply_length + head.body_length


cdef int send_refusals(Plane* plane, AckBatch* batch, bytes body) except -1:
    cdef uint8_t* at = batch.data
    cdef uint8_t* end = at + batch.used
    cdef ack_head_t head
    while at < end:
        memcpy(&head, at, sizeof(ack_head_t))
        at += sizeof(ack_head_t)
        send_message(plane, head.account, at, head.reply_length, NULL, 0, NULL, 0, body, <uint64_t>len(body))
        at += head.reply_length + head.body_length
    return 0


# ---- one stream ------------------------------------------------------------------------------------------------

cdef class StreamIngest(Sink):
    """Stores what is published on one stream's subjects."""

    def __init__(self, stream):
        """Store into `stream`, a workers.jetstream.stream.Stream, whose publisher and engine are set."""
        self.stream = stream
        self.publisher = stream.publisher
        self.acks = stream.engine.acks
        self.configure()

    def configure(self):
        """Take over the stream's configuration after a change."""
        config = self.stream.config
        domain = self.stream.engine.config.js_domain
        self.store = self.stream.store
        self.dedup = self.publisher.dedup
        self.has_window = config.duplicate_window > 0
        self.ack_head = b'{"stream":"%b",%b"seq":' % (
            config.name.encode(), b'"domain":"%b",' % domain.encode() if domain else b"")
        self.has_acks = not config.no_ack
        self.is_durable = self.stream.is_durable
        self.max_bytes = config.max_msg_size
        self.is_special = bool(
            config.sealed or config.mirror or config.subject_transform or config.republish
            or config.retention == "interest" or config.allow_msg_counter or config.allow_msg_schedules
            or config.allow_batched)

    def touch(self):
        """Note that the publisher has stored something."""
        if not self.is_touched:
            self.is_touched = True
            self.acks.touched.append(self)

    cdef int take(self, const Message* message) except -1:
        cdef const uint8_t* body = message.tail + message.tail_length - 2 - message.size
        cdef uint32_t header_size = <uint32_t>message.header_size if message.header_size > 0 else 0
        if self.plane.store_full and message.from_peer:
            return self.refuse(message)
        if not (self.is_special or header_size > HEADERS_MAX
                or (self.max_bytes >= 0 and <int64_t>message.size > self.max_bytes)) and self.store_plain(
                message.subject, message.subject_length, body, header_size, body + header_size,
                message.size - header_size, message.reply, message.reply_length):
            return 0
        self.touch()
        self.publisher.publish(message_subject(message), message_reply(message), message_headers(message),
                               message_payload(message))
        return 0

    cdef int refuse(self, const Message* message) except -1:
        """Tell a publisher on another worker, who cannot be held back, that the store is behind."""
        if message.reply_length and self.has_acks:
            self.stream.send_now(message_reply(message), self.stream.overload_answer, TOO_MANY_REQUESTS)
        return 0

    cdef int store_plain(self, const uint8_t* subject, uint32_t subject_length, const uint8_t* headers,
                         uint32_t header_size, const uint8_t* payload, uint32_t payload_size, const uint8_t* reply,
                         uint32_t reply_length) except -1:
        """Store a message that asks for nothing else; return 0, with nothing done, if it has to go to the publisher."""
        cdef const uint8_t* id = NULL
        cdef uint32_t id_length = 0
        cdef int64_t now_ns = real_time_ns()
        cdef int64_t sequence
        cdef uint64_t known
        if reply_length > 4 and memcmp(reply + reply_length - 4, <const char*>b".$FI", 4) == 0:
            return 0                           # part of a fast batch
        if header_size:
            if header_size > 8 and headers[8] != c"\r":
                return 0                       # a status, which is not stored
            if server_headers(headers, header_size):
                id = message_id_of(headers, header_size, &id_length)
                if id is NULL or server_headers(headers, header_size) > 1:
                    return 0
            if id is not NULL and self.has_window:
                known = self.dedup.find(id, id_length, now_ns)
                if known:
                    self.acknowledge(reply, reply_length, known, True)
                    return 1
        if now_ns < self.store.last_timestamp_ns:
            now_ns = self.store.last_timestamp_ns
        try:
            sequence = self.store.append_c(subject, subject_length, headers, header_size, payload, payload_size, now_ns,
                                           0)
        except StorageError:
            return 0                           # the publisher meets it too, and answers
        if sequence < 0:
            return 0
        if id is not NULL and self.has_window:
            self.dedup.add(id, id_length, <uint64_t>sequence, now_ns)
        if not self.is_touched:
            self.is_touched = True
            self.acks.touched.append(self)
        self.acknowledge(reply, reply_length, <uint64_t>sequence, False)
        return 1

    cdef int acknowledge(self, const uint8_t* reply, uint32_t reply_length, uint64_t sequence,
                         bint is_duplicate) except -1:
        cdef uint8_t body[ACK_BYTES]
        cdef uint32_t length = <uint32_t>len(self.ack_head)
        if reply_length == 0 or not self.has_acks:
            return 0
        memcpy(body, <const uint8_t*>self.ack_head, length)
        length += write_decimal(body + length, sequence)
        if is_duplicate:
            memcpy(body + length, <const uint8_t*>b',"duplicate": true', 18)
            length += 18
        body[length] = c"}"
        length += 1
        if self.is_durable:
            return self.acks.add(self.account, reply, reply_length, body, length)
        send_message(self.plane, self.account, reply, reply_length, NULL, 0, NULL, 0, body, length)
        return 0
