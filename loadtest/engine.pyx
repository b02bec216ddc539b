# cython: language_level=3, embedsignature=True, wraparound=False
"""Own engines and the board they share; set up connections; say what happened.

A run: one Board, one Engine per thread, connected sockets that have finished their handshake
(loadtest/client.py) added with a role, Board.begin, then Engine.run in each thread. Sockets stay the
caller's: they must outlive the run and are not closed here. After run, the properties say what was sent and
what arrived.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from posix.unistd cimport close

import os

from loadtest.board cimport (
    board_add_senders,
    board_delivered,
    board_is_stopped,
    board_published,
    board_row_t,
    board_stop,
)
from loadtest.ledger cimport (
    DUE_BYTES,
    FAULT_BROKEN,
    FAULT_CLOSED,
    FAULT_DAMAGED,
    FAULT_ERRNO,
    FAULT_EXTRA,
    FAULT_IDLE,
    FAULT_LOST,
    FAULT_MEMORY,
    FAULT_NO_RESPONDERS,
    FAULT_NONE,
    FAULT_PUBLISHER,
    FAULT_REPEATED,
    FAULT_REPLY,
    FAULT_SERVER,
    FAULT_SIZE,
    FAULT_SUBJECT,
    HISTOGRAM_BUCKETS,
    MARK_BYTES,
    SEQUENCE_BITS,
    ledger_free,
    ledger_init,
    ledger_t,
)
from loadtest.loop cimport (
    HEADROOM_BYTES,
    READ_BYTES,
    ROLE_PUBLISHER,
    ROLE_REQUESTER,
    ROLE_RESPONDER,
    ROLE_SUBSCRIBER,
    connection_free,
    connection_t,
    engine_feed,
    engine_run,
    engine_watch,
    role_t,
)
from loadtest.sender cimport TOKEN_DIGITS, schedule_t, slot_t

cdef extern from "<sys/epoll.h>" nogil:
    int epoll_create1(int flags)
    enum: EPOLL_CLOEXEC

FAULT_TEXTS = {
    FAULT_SIZE: "a payload of {actual} bytes where {expected} were due",
    FAULT_PUBLISHER: "a mark of publisher {actual}, there are {expected}",
    FAULT_LOST: "lost or reordered: sequence {actual} came where {expected} was due",
    FAULT_REPEATED: "repeated or reordered: sequence {actual} came where {expected} was due",
    FAULT_DAMAGED: "damaged payload in sequence {expected}",
    FAULT_SUBJECT: "a message on subject or sid {text!r} that is not subscribed here",
    FAULT_EXTRA: "a message too many on {text!r}",
    FAULT_REPLY: "a reply that nothing waits for: sequence {actual} of {expected} issued {text}",
    FAULT_NO_RESPONDERS: "no responders",
    FAULT_BROKEN: "bytes that are no operation: {text!r}",
    FAULT_SERVER: "the server said {text}",
    FAULT_CLOSED: "the server closed the connection",
    FAULT_ERRNO: "{text}: {errno}",
    FAULT_IDLE: "nothing moved any more: {expected} published, {actual} delivered",
    FAULT_MEMORY: "out of memory: {text}",
}
ROLE_NAMES = {
    ROLE_PUBLISHER: "publisher",
    ROLE_SUBSCRIBER: "subscriber",
    ROLE_REQUESTER: "requester",
    ROLE_RESPONDER: "responder",
}


cdef char *copy_bytes(bytes data) except NULL:
    """Return a copy in memory of our own."""
    cdef char *copied = <char *>malloc(len(data) + 1)
    if copied == NULL:
        raise MemoryError
    memcpy(copied, <const char *>data, len(data))
    return copied


def publish_frame(subject: bytes, payload_bytes: int) -> bytes:
    """Return PUB with an unmarked payload: the mark's place is filled by the pattern."""
    return b"PUB %b %d\r\n%b\r\n" % (subject, payload_bytes, pattern(payload_bytes))


def pattern(payload_bytes: int) -> bytes:
    """Return the payload as it is where neither mark nor due time stand."""
    cdef ledger_t ledger
    try:
        if ledger_init(&ledger, payload_bytes, 0, False, False) < 0:
            raise MemoryError
        return ledger.pattern[:payload_bytes]
    finally:
        ledger_free(&ledger)


def message_payload(publisher: int, sequence: int, payload_bytes: int, due_ns: int | None = None) -> bytes:
    """Return the payload that a publisher gives a message."""
    head = b""
    if payload_bytes >= MARK_BYTES:
        head = (publisher << SEQUENCE_BITS | sequence).to_bytes(MARK_BYTES, "little")
        if due_ns is not None and payload_bytes >= MARK_BYTES + DUE_BYTES:
            head += due_ns.to_bytes(DUE_BYTES, "little")
    return head + pattern(payload_bytes)[len(head):]


cdef class Board:
    """What the engines of a run know of each other, and the way to stop them."""

    def __cinit__(self, engine_count: int, idle_ns: int):
        memset(&self.board, 0, sizeof(self.board))
        self.board.rows = <board_row_t *>calloc(engine_count, sizeof(board_row_t))
        if self.board.rows == NULL:
            raise MemoryError
        self.board.engine_count = engine_count
        self.board.idle_ns = idle_ns

    def __dealloc__(self):
        free(self.board.rows)

    def begin(
        self, start_ns: int, stop_ns: int, copies: int, in_flight_max: int, delivered_target: int
    ) -> None:
        """Set the terms of the run; call before any Engine.run.

        Args:
            start_ns: CLOCK_MONOTONIC time from which schedules count.
            stop_ns: when senders stop at the latest, 0 for never.
            copies: deliveries of one published message to subscribers of this run.
            in_flight_max: deliveries that publishers may be ahead of subscribers, 0 for no bound.
            delivered_target: deliveries to wait for when publishers are elsewhere, else 0.
        """
        self.board.start_ns = start_ns
        self.board.stop_ns = stop_ns
        self.board.copies = copies
        self.board.in_flight_max = in_flight_max
        self.board.delivered_target = delivered_target

    def stop(self) -> None:
        """End all engines soon; safe from any thread and from signal handlers."""
        board_stop(&self.board)

    @property
    def is_stopped(self) -> bool:
        return board_is_stopped(&self.board)

    @property
    def published(self) -> int:
        return board_published(&self.board)

    @property
    def delivered(self) -> int:
        return board_delivered(&self.board)


cdef class Engine:
    """The connections of one thread."""

    def __cinit__(
        self,
        Board board not None,
        row: int,
        connections_max: int,
        payload_bytes: int,
        publisher_count: int,
        *,
        has_due: bool = False,
        is_queue: bool = False,
        any_size: bool = False,
    ):
        memset(&self.engine, 0, sizeof(self.engine))
        self.engine.epoll_fd = -1
        self.board = board
        self.engine.board = &board.board
        if not 0 <= row < board.board.engine_count:
            raise ValueError(f"row {row} on a board of {board.board.engine_count}")
        self.engine.row = row
        self.engine.connection_capacity = connections_max
        self.engine.connections = <connection_t *>calloc(max(1, connections_max), sizeof(connection_t))
        self.engine.buffer = <char *>malloc(HEADROOM_BYTES + READ_BYTES)
        if self.engine.connections == NULL or self.engine.buffer == NULL:
            raise MemoryError
        if ledger_init(&self.engine.ledger, payload_bytes, publisher_count, has_due, is_queue) < 0:
            raise MemoryError
        self.engine.ledger.any_size = any_size
        self.engine.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        if self.engine.epoll_fd < 0:
            raise OSError("epoll_create1")

    def __dealloc__(self):
        cdef uint32_t index
        if self.engine.connections != NULL:
            for index in range(self.engine.connection_count):
                connection_free(&self.engine.connections[index])
        free(self.engine.connections)
        free(self.engine.buffer)
        ledger_free(&self.engine.ledger)
        if self.engine.epoll_fd >= 0:
            close(self.engine.epoll_fd)

    cdef connection_t *open_connection(self, int fd, role_t role) except NULL:
        """Take the next free place; what add_* fills in afterwards is freed with the engine."""
        cdef connection_t *connection
        if self.engine.connection_count == self.engine.connection_capacity:
            raise ValueError(f"more than {self.engine.connection_capacity} connections")
        connection = &self.engine.connections[self.engine.connection_count]
        connection.fd = fd
        connection.role = role
        self.engine.connection_count += 1
        # A descriptor below 0 is a connection that only feed() serves.
        if fd >= 0 and engine_watch(&self.engine, connection) < 0:
            raise OSError(f"epoll_ctl of descriptor {fd}")
        return connection

    def add_publisher(
        self,
        fd: int,
        index: int,
        subject: bytes,
        limit: int,
        *,
        subject_count: int = 1,
        offset_ns: int = 0,
        interval_ns: float = 0.0,
        block_bytes: int = 65536,
    ) -> int:
        """Add a connection that publishes; return its index for feed().

        Args:
            index: of the publisher in the whole run, in its marks.
            limit: messages, at most 2**48 - 1.
            subject_count: above 1, messages go to `<subject>.<number>`, numbers below it, in scattered order.
            offset_ns: of the first message's due time after the start.
            interval_ns: between due times; 0.0 is as fast as possible.
            block_bytes: about how much one write carries.
        """
        cdef connection_t *connection = self.open_connection(fd, ROLE_PUBLISHER)
        cdef size_t copy
        digits = len(str(subject_count - 1)) if subject_count > 1 else 0
        whole_subject = subject + b"." + b"0" * digits if digits else subject
        frame = publish_frame(whole_subject, self.engine.ledger.payload_bytes)
        connection.publisher.index = index
        connection.publisher.frame_bytes = len(frame)
        connection.publisher.frames_max = max(1, block_bytes // len(frame))
        connection.publisher.mark_offset = len(frame) - 2 - self.engine.ledger.payload_bytes
        connection.publisher.digits = digits
        connection.publisher.digits_offset = 4 + len(whole_subject) - digits
        connection.publisher.subject_count = subject_count
        connection.publisher.limit = limit
        connection.publisher.schedule.first_ns = offset_ns
        connection.publisher.schedule.interval_ns = interval_ns
        connection.publisher.block = <char *>malloc(connection.publisher.frames_max * len(frame))
        if connection.publisher.block == NULL:
            raise MemoryError
        for copy in range(connection.publisher.frames_max):
            memcpy(connection.publisher.block + copy * len(frame), <const char *>frame, len(frame))
        self.add_sender(interval_ns)
        return self.engine.connection_count - 1

    def add_subscriber(self, fd: int, subject: bytes | None, *, subject_is_prefix: bool = False) -> int:
        """Add a connection that has subscribed with sid 1; return its index for feed().

        Args:
            subject: what every message must be published on, or begin with; None: not checked.
        """
        cdef connection_t *connection = self.open_connection(fd, ROLE_SUBSCRIBER)
        connection.subscriber.sequence_next = <uint64_t *>calloc(
            self.engine.ledger.publisher_count + 1, sizeof(uint64_t)
        )
        if connection.subscriber.sequence_next == NULL:
            raise MemoryError
        if subject is not None:
            connection.subject = copy_bytes(subject)
            connection.subject_bytes = len(subject)
            connection.subject_is_prefix = subject_is_prefix
        self.engine.subscriber_count += 1
        return self.engine.connection_count - 1

    def add_requester(
        self,
        fd: int,
        index: int,
        subject: bytes,
        inbox: bytes,
        window: int,
        limit: int,
        *,
        offset_ns: int = 0,
        interval_ns: float = 0.0,
    ) -> int:
        """Add a connection that has subscribed to `<inbox>.*` with sid 1 and keeps `window` requests open."""
        cdef connection_t *connection = self.open_connection(fd, ROLE_REQUESTER)
        # Room for stragglers: only a reply that comes this much later than its successors holds up the rest.
        slot_count = 1 << (8 * window).bit_length()
        reply = inbox + b"." + b"0" * TOKEN_DIGITS
        payload_bytes = self.engine.ledger.payload_bytes
        frame = b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, payload_bytes, pattern(payload_bytes))
        connection.requester.index = index
        connection.requester.frame = copy_bytes(frame)
        connection.requester.frame_bytes = len(frame)
        connection.requester.token_offset = 4 + len(subject) + 1 + len(reply) - TOKEN_DIGITS
        connection.requester.mark_offset = len(frame) - 2 - payload_bytes
        connection.requester.inbox_bytes = len(reply)
        connection.requester.slots = <slot_t *>calloc(slot_count, sizeof(slot_t))
        if connection.requester.slots == NULL:
            raise MemoryError
        connection.requester.slot_mask = slot_count - 1
        connection.requester.window = window
        connection.requester.limit = limit
        connection.requester.schedule.first_ns = offset_ns
        connection.requester.schedule.interval_ns = interval_ns
        connection.subject = copy_bytes(inbox + b".")
        connection.subject_bytes = len(inbox) + 1
        connection.subject_is_prefix = True
        self.add_sender(interval_ns)
        return self.engine.connection_count - 1

    def add_responder(self, fd: int) -> int:
        """Add a connection that has subscribed with sid 1 and sends every request's payload back."""
        self.open_connection(fd, ROLE_RESPONDER)
        self.engine.responder_count += 1
        return self.engine.connection_count - 1

    cdef void add_sender(self, double interval_ns):
        self.engine.senders_left += 1
        self.engine.is_paced = self.engine.is_paced or interval_ns > 0.0
        board_add_senders(self.engine.board, 1)

    def feed(self, connection: int, data: bytes) -> None:
        """Handle bytes as if they had just been read from a connection, by its index."""
        if not 0 <= connection < self.engine.connection_count:
            raise IndexError(connection)
        cdef const char *start = data
        cdef size_t size = <size_t>len(data)
        cdef uint32_t index = connection
        with nogil:
            engine_feed(&self.engine, &self.engine.connections[index], start, size)

    def run(self) -> None:
        """Serve the connections until the work is over, something is wrong, or the board is stopped.

        Runs without the GIL; to be called once, from the thread that the engine belongs to.
        """
        with nogil:
            engine_run(&self.engine)

    def failure(self) -> str | None:
        """Return what went wrong first, None if nothing did."""
        fault = self.engine.ledger.fault
        if fault == FAULT_NONE:
            return None
        text = (<bytes>self.engine.fault_text).decode("utf-8", "replace")
        said = FAULT_TEXTS[fault].format(
            expected=self.engine.ledger.fault_expected,
            actual=self.engine.ledger.fault_actual,
            text=text,
            errno=os.strerror(self.engine.fault_errno),
        )
        if fault == FAULT_IDLE or self.engine.connection_count == 0:
            return said
        role = ROLE_NAMES[self.engine.connections[self.engine.fault_connection].role]
        return f"{role} on connection {self.engine.fault_connection} of thread {self.engine.row}: {said}"

    def received(self) -> list[int]:
        """Return how many messages each subscriber and responder received, in the order they were added."""
        cdef uint32_t index
        return [
            self.engine.connections[index].subscriber.received
            for index in range(self.engine.connection_count)
            if self.engine.connections[index].role in (ROLE_SUBSCRIBER, ROLE_RESPONDER)
        ]

    def seen(self, publisher: int) -> bytes:
        """Return the bitmap of a publisher's sequences that arrived in a queue run; 64-bit native words."""
        if not 0 <= publisher < self.engine.ledger.publisher_count:
            raise IndexError(publisher)
        cdef uint32_t index = publisher
        if self.engine.ledger.seen[index] == NULL:
            return b""
        cdef size_t size = self.engine.ledger.seen_words[index] * sizeof(uint64_t)
        return (<char *>self.engine.ledger.seen[index])[:size]

    def latency_counts(self) -> bytes:
        """Return the counts of the latency histogram, native 64-bit integers, see loadtest/histogram.py."""
        return (<char *>self.engine.ledger.histogram)[:HISTOGRAM_BUCKETS * sizeof(uint64_t)]

    @property
    def latency_max_ns(self) -> int:
        return self.engine.ledger.latency_max_ns

    @property
    def lateness(self) -> tuple[int, int, int]:
        """How late paced senders themselves were: (bursts, sum of ns, worst ns)."""
        cdef uint32_t index
        cdef uint64_t count = 0, total = 0, worst = 0
        cdef schedule_t schedule
        for index in range(self.engine.connection_count):
            for schedule in (
                self.engine.connections[index].publisher.schedule,
                self.engine.connections[index].requester.schedule,
            ):
                count += schedule.late_count
                total += schedule.late_sum_ns
                worst = max(worst, schedule.late_max_ns)
        return count, total, worst

    @property
    def published(self) -> int:
        return self.engine.published

    @property
    def delivered(self) -> int:
        return self.engine.ledger.delivered

    @property
    def delivered_bytes(self) -> int:
        return self.engine.ledger.delivered_bytes

    @property
    def answered(self) -> int:
        """Bytes that feed() left to be sent: a test sees with it that PING was answered."""
        cdef uint32_t index
        return sum(
            self.engine.connections[index].outbox.end - self.engine.connections[index].outbox.start
            for index in range(self.engine.connection_count)
        )

    @property
    def first_ns(self) -> int:
        return self.engine.first_ns

    @property
    def last_ns(self) -> int:
        return self.engine.last_ns
