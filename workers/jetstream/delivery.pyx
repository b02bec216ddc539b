# cython: language_level=3, embedsignature=True, wraparound=False
"""The compiled core of one consumer: what it delivers next, and to whom.

A core holds requests: waiting pull requests, or the one request of a push consumer. `pump` gives them messages in turn,
first what is to be delivered again, then what the stream has from `next_sequence` on, and stops where nothing is left,
at the limit of unacknowledged messages, or when a client or a ring is full. No Python object is made for a message.

What a consumer may do and when is its policy's affair (consumer.py); the core calls it when a request has come to its
end or a message to its last delivery. A core with something to do is in `Pumps`, which the engine runs after each
round; `Audience` wakes those that wait for a message that came (audience.pyx). So idle consumers cost nothing.
"""
cimport cython
from cpython cimport array
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from array import array as make_array
from collections import deque

from storage.errors import RecordDamaged

from storage.consumer cimport ConsumerStore
from storage.pending cimport pending_t
from storage.queries cimport Matches, count_from, is_match
from storage.reader cimport record_view_t
from storage.subjects cimport SubjectFilter
from workers.dataplane cimport DataPlane
from workers.jetstream.audience cimport Audience, Pumps, Waiter
from workers.jetstream.ingest cimport real_time_ns
from workers.octets cimport OCTETS_SLACK, must_malloc, write_decimal, write_eight, write_near
from workers.outbox cimport send_shown, target_route
from workers.peers cimport peers_backlogged

FILLED, TOO_LARGE, GONE = range(3)
"""Why a request has ended: it has all its messages, the next one is larger than what is left of its bytes, nobody
listens to its reply subject any more."""

NOTHING, A_RING, A_CLIENT = range(3)
"""What deliveries have to wait for."""

KEEP, WORK_QUEUE, INTEREST = range(3)
"""What an acknowledgement does to the stream: nothing, the message goes, it goes when no other consumer wants it."""


cdef enum Retention:
    RETENTION_KEEP = 0
    RETENTION_WORK_QUEUE = 1
    RETENTION_INTEREST = 2


cdef enum End:
    END_FILLED = 0
    END_TOO_LARGE = 1
    END_GONE = 2


cdef enum:
    NUMBERS_MAX = 5 * 21
    PUMP_COUNT = 2048              # messages of one consumer before others get their turn
    ACKS_ONE = 2                   # storage.consumer.ACK_EXPLICIT for C


@cython.final
cdef class Request:
    """A waiting pull request, or the target of a push consumer."""

    def __init__(self, bytes reply not None, int64_t remaining=1, int64_t bytes_left=-1, info=None):
        """Ask for messages to `reply`.

        Args:
            remaining: messages; -1: no end. bytes_left: -1: no limit. info: the policy's own.
        """
        self.reply, self.remaining, self.bytes_left, self.info = reply, remaining, bytes_left, info
        self.target.subject = <uint8_t*>self.reply
        self.target.subject_length = <uint32_t>len(reply)


# ---- one consumer ----------------------------------------------------------------------------------------------

@cython.final
cdef class ConsumerCore(Waiter):
    """What one consumer delivers next, and to whom."""

    def __init__(self, DataPlane data_plane not None, Acks acks not None, Pumps pumps not None,
                 Audience audience not None, stream, policy, str name not None, ConsumerStore state not None, filters,
                 *, bint acknowledges, int mode=KEEP):
        """Go on where `state` stands.

        Args:
            audience: of the stream. stream: workers.jetstream.stream.Stream. policy: see consumer.py.
            filters: subjects; none for all of the stream.
            acknowledges: messages are pending until they are acknowledged.
            mode: KEEP, WORK_QUEUE or INTEREST.
        """
        cdef bytes head = b"$JS.ACK.%b.%b." % (stream.name.encode(), name.encode())
        self.plane = data_plane.plane
        self.acks, self.pumps, self.audience = acks, pumps, audience
        self.stream, self.policy, self.name, self.state = stream, policy, name, state
        self.store = stream.store
        self.acknowledges, self.mode = acknowledges, mode
        self.max_ack_pending = self.max_deliver = -1
        self.extra_headers = b""
        self.requests = []
        self.redeliveries = deque()
        self.redelivering = set()
        self.given_up = state.given_up
        self.forget_gone_given_up()
        self.next_sequence = state.delivered_stream + 1
        self.reply_head = <uint32_t>len(head)
        self.reply = <uint8_t*>must_malloc(self.reply_head + NUMBERS_MAX + OCTETS_SLACK)
        memcpy(self.reply, <const uint8_t*>head, self.reply_head)
        self.set_filters(filters)
        if self.holds_any():
            self.audience.holders[self] = None

    def __dealloc__(self):
        free(self.reply)

    def set_filters(self, filters):
        """Deliver from now on only what matches one of these subjects; none: everything."""
        cdef list patterns = [subject.encode() for subject in filters] or [b">"]
        self.filter = SubjectFilter(self.store.subjects, patterns)
        self.matches = Matches(self.store, self.filter)
        self.is_counted = False
        self.audience.join(self, patterns)
        self.wake()

    def begin_with(self, sequences, uint64_t following):
        """Deliver these messages first, then those from sequence `following` on: the last of each subject.

        Args:
            sequences: of stored messages, ascending.
        """
        self.initial = make_array("Q", sequences)
        self.initial_at = 0
        self.skip_to(following)
        if self.count_initial():
            self.audience.holders[self] = None

    @property
    def initial_count(self):
        """How many messages come before those from next_sequence on."""
        return self.count_initial()

    def skip_to(self, uint64_t sequence):
        """Look at nothing before this stream sequence."""
        self.next_sequence = sequence
        self.is_idle = self.is_counted = False

    def take_back(self, uint64_t sequence):
        """Undo redeliver."""
        self.redelivering.discard(sequence)

    def reset(self, uint64_t sequence):
        """Begin anew at a stream sequence, with nothing pending."""
        self.state.reset_c(sequence)
        self.skip_to(sequence)
        self.initial = None
        self.redeliveries.clear()
        self.redelivering.clear()
        self.last_delivered_ns = self.acked_ns = 0
        self.wake()

    # ---- what it knows

    @property
    def num_pending(self):
        """How many messages it has still to deliver for the first time."""
        return self.count_unseen() + self.count_initial()

    cdef uint64_t count_initial(self) noexcept:
        return <uint64_t>(len(self.initial) - self.initial_at) if self.initial is not None else 0

    cdef bint is_initial(self, uint64_t sequence) noexcept:
        """Return whether a message is still among those to deliver first."""
        cdef Py_ssize_t low = self.initial_at, high, middle
        cdef uint64_t* sequences
        if self.initial is None:
            return False
        high = len(self.initial)
        sequences = <uint64_t*>self.initial.data.as_ulonglongs
        while low < high:
            middle = (low + high) // 2
            if sequences[middle] < sequence:
                low = middle + 1
            else:
                high = middle
        return low < len(self.initial) and sequences[low] == sequence

    cdef uint64_t count_unseen(self) except? 0xFFFFFFFFFFFFFFFF:
        """Count the matching messages from next_sequence on: all of them when messages went, else only new ones."""
        cdef uint64_t last = self.store.last_sequence
        # A message that acknowledgements remove is one that nobody still counts.
        cdef uint64_t removed = self.audience.lost()
        self.audience.catch_up(self)
        if not self.is_counted or removed != self.removed:
            self.unseen = count_from(self.store, self.filter, self.next_sequence)
        elif last > self.counted_to:
            self.unseen += count_from(self.store, self.filter, max(self.counted_to + 1, self.next_sequence))
        self.is_counted = True
        self.removed = removed
        self.counted_to = last
        return self.unseen

    @property
    def last_ack_ns(self):
        """Unix time of the last acknowledgement, 0: there was none."""
        return real_time_ns() - (self.plane.now_ns - self.acked_ns) if self.acked_ns else 0

    @property
    def num_redeliveries(self):
        """How many messages wait to be delivered again."""
        return len(self.redelivering)

    @property
    def num_given_up(self):
        """How many messages of the stream were delivered as often as they may be."""
        return len(self.given_up)

    @property
    def num_ack_pending(self):
        """How many messages are delivered and not acknowledged."""
        return self.state.pending_count

    def deliveries(self, uint64_t sequence):
        """Return how often a pending message was delivered; 0: it is not pending."""
        cdef pending_t* one = self.state.find(sequence)
        return one.deliveries if one is not NULL else 0

    def waiting_since(self, int64_t before_ns):
        """Return (sequence, time, deliveries) of pending messages last delivered before a time, the oldest first.

        What is to be delivered again anyhow is left out.
        """
        cdef list found = []
        cdef pending_t* one = self.state.oldest()
        while one is not NULL and one.timestamp_ns < before_ns:
            if one.sequence not in self.redelivering:
                found.append((one.sequence, one.timestamp_ns, one.deliveries))
            one = self.state.younger(one)
        return found

    def oldest_waiting(self, excluded):
        """Return (time, deliveries) of the message pending longest that is neither to be redelivered nor excluded."""
        cdef pending_t* one = self.state.oldest()
        while one is not NULL:
            if one.sequence not in self.redelivering and one.sequence not in excluded:
                return one.timestamp_ns, one.deliveries
            one = self.state.younger(one)
        return None

    def last_delivery_ns(self, uint64_t sequence):
        """Return when a pending message was delivered last, 0: it is not pending."""
        cdef pending_t* one = self.state.find(sequence)
        return one.timestamp_ns if one is not NULL else 0

    cdef bint wants_c(self, uint64_t sequence) except -1:
        if sequence < self.next_sequence and not self.is_initial(sequence):
            return self.state.find(sequence) is not NULL or sequence in self.given_up
        return is_match(self.store, self.filter, sequence)

    cdef bint holds_any(self) except -1:
        return self.state.pending_count > 0 or len(self.given_up) > 0 or self.count_initial() > 0

    @property
    def last_looked_at(self):
        """The last stream sequence that it has looked at, to deliver it for the first time or pass over it."""
        self.audience.catch_up(self)
        return self.next_sequence - 1

    @property
    def upcoming_sequence(self):
        """The next message to deliver for the first time, 0: there is none."""
        return self.upcoming()

    @property
    def is_full(self):
        """Whether it has as many unacknowledged messages as it may have."""
        return self.acknowledges and 0 <= self.max_ack_pending <= <int64_t>self.state.pending_count

    # ---- what it is told

    def add_request(self, Request request not None):
        """Give messages to one more request."""
        request.target.account = <uint32_t>self.stream.account
        request.is_waiting = True
        if self.turn >= len(self.requests):
            self.turn = 0
        if self.chooses or self.turn == 0:
            self.requests.append(request)
        else:
            # Whoever came before has a turn first.
            self.requests.insert(self.turn, request)
            self.turn += 1
        self.audience.begin_waiting(self)
        self.wake()

    def remove_request(self, Request request not None):
        """Forget a request, if it has not ended."""
        cdef Py_ssize_t at
        request.is_waiting = False
        for at in range(len(self.requests)):
            if self.requests[at] is request:
                del self.requests[at]
                if at < self.turn:
                    self.turn -= 1
                break
        if not self.requests:
            self.audience.end_waiting(self)

    def wake(self):
        """Have it pumped soon, if it has anybody to deliver to."""
        if self.requests:
            self.pumps.add(self)

    def redeliver(self, uint64_t sequence):
        """Deliver a pending message again as soon as possible."""
        if not self.redelivering:
            # What is left is no longer due; next_redelivery looks at nothing while none is.
            self.redeliveries.clear()
        if sequence not in self.redelivering:
            self.redelivering.add(sequence)
            self.redeliveries.append(sequence)
            self.wake()

    def wait_anew(self, uint64_t sequence, int64_t now_ns):
        """Let the time to acknowledge a message begin again."""
        self.state.restart_wait(sequence, now_ns)

    def acknowledge(self, uint64_t sequence, uint64_t consumer_sequence):
        """Acknowledge a message, or with ack policy all everything up to it; return how many it were."""
        return self.acknowledge_c(sequence, consumer_sequence)

    cdef int acknowledge_c(self, uint64_t sequence, uint64_t consumer_sequence) except -1:
        cdef int count
        cdef list gone = self.acknowledged_before(sequence) if self.mode != RETENTION_KEEP else None
        cdef bint was_given_up = len(self.given_up) and sequence in self.given_up
        count = self.state.ack_c(consumer_sequence, sequence)
        self.acked_ns = self.plane.now_ns
        if was_given_up and self.mode != RETENTION_KEEP and sequence not in self.given_up:
            # Too late for another delivery, and the message is done with all the same.
            self.remove_acknowledged(sequence)
        if count == 0:
            return 0
        if len(self.redelivering):
            self.redelivering.discard(sequence)
        if gone is not None:
            for one in gone:
                self.remove_acknowledged(one)
        elif self.mode != RETENTION_KEEP:
            self.remove_acknowledged(sequence)
        if not self.is_idle or self.chooses:
            # It may have been full. Who chooses may wait for fewer pending ones.
            self.wake()
        return count

    cdef list acknowledged_before(self, uint64_t sequence):
        """Return what an acknowledgement of everything up to a message acknowledges; None: of this one alone."""
        cdef list gone = []
        cdef pending_t* one
        if self.state.ack_policy == ACKS_ONE:
            return None
        one = self.state.lowest()
        while one is not NULL and one.sequence <= sequence:
            gone.append(one.sequence)
            one = self.state.after(one)
        return gone

    cdef int remove_acknowledged(self, uint64_t sequence) except -1:
        if self.mode == RETENTION_INTEREST:
            self.policy.acknowledged(sequence)
            return 0
        if self.store.delete(sequence):
            self.audience.acknowledged += 1
        return 0

    def forget(self, uint64_t sequence):
        """Take a message out of what is pending without removing it from the stream: it stays wanted."""
        self.redelivering.discard(sequence)
        self.state.give_up_c(sequence)
        self.wake()

    def drop_gone(self):
        """Forget pending messages that the stream no longer has, and return (sequence, consumer sequence,
        deliveries) of each."""
        cdef list gone = []
        cdef pending_t* one = self.state.lowest()
        while one is not NULL:
            if self.store.next_live(one.sequence) != one.sequence:
                gone.append((one.sequence, one.consumer_sequence, one.deliveries))
            one = self.state.after(one)
        for sequence, _, _ in gone:
            self.redelivering.discard(sequence)
            if self.state.ack_policy == ACKS_ONE:
                self.state.ack_c(0, sequence)
            else:
                self.state.give_up_c(sequence)
        self.drop_gone_initial()
        self.forget_gone_given_up()
        if gone:
            self.wake()
        return gone

    cdef int drop_gone_initial(self) except -1:
        """Count no message that is gone among those to deliver first."""
        cdef uint64_t* sequences
        cdef Py_ssize_t at, kept = 0
        if self.initial is None:
            return 0
        sequences = <uint64_t*>self.initial.data.as_ulonglongs
        for at in range(self.initial_at, len(self.initial)):
            if self.store.next_live(sequences[at]) == sequences[at]:
                sequences[kept] = sequences[at]
                kept += 1
        array.resize(self.initial, kept)
        self.initial_at = 0
        return 0

    cdef int forget_gone_given_up(self) except -1:
        """Forget what was given up and is not in the stream; that is not logged, but done again after a start."""
        for sequence in list(self.given_up):
            if self.store.next_live(sequence) != sequence:
                self.given_up.discard(sequence)
        return 0

    # ---- delivering

    def pump(self, int64_t now_ns, int64_t count_max=PUMP_COUNT, int64_t bytes_max=-1):
        """Deliver to the requests in turn; return how many messages went out.

        Args:
            count_max: messages, after which the others get their turn; it comes again by itself.
            bytes_max: of messages, -1 for no limit; it does not come again by itself.
        """
        cdef int64_t sent = 0
        while True:
            try:
                self.deliver_many(now_ns, count_max, &sent, &bytes_max)
                return sent
            except RecordDamaged:
                # The store has counted it as lost, and shows it no more.
                pass

    cdef int deliver_many(self, int64_t now_ns, int64_t count_max, int64_t* sent, int64_t* bytes_max) except -1:
        """Do what pump does up to a damaged message; add to `sent`, and take from `bytes_max` if it is a limit."""
        cdef int64_t size
        while self.requests and not self.is_paused and bytes_max[0] != 0:
            if self.plane.backlogged or self.plane.pressed or sent[0] >= count_max:
                self.pumps.add(self)
                break
            size = self.deliver_next(now_ns)
            if size < 0:
                continue
            if size == 0:
                break
            sent[0] += 1
            if bytes_max[0] > 0:
                bytes_max[0] -= min(size, bytes_max[0])
        return 0

    cdef uint64_t next_redelivery(self) except? 0:
        """Return the next message to deliver again, or 0; what was acknowledged or removed meanwhile is skipped."""
        cdef uint64_t sequence
        cdef pending_t* one
        while len(self.redelivering):
            sequence = self.redeliveries[0]
            one = self.state.find(sequence)
            if one is NULL or sequence not in self.redelivering:
                self.redeliveries.popleft()
                self.redelivering.discard(sequence)
                continue
            if self.max_deliver >= 0 and <int64_t>one.deliveries >= self.max_deliver:
                self.redeliveries.popleft()
                self.redelivering.discard(sequence)
                self.policy.exhausted(sequence, one.deliveries)
                continue
            return sequence
        return 0

    cdef uint64_t upcoming(self) except? 0:
        """Return the next message to deliver for the first time, or 0."""
        cdef uint64_t sequence
        while self.initial is not None:
            if self.initial_at == len(self.initial):
                self.initial = None
                break
            sequence = self.initial.data.as_ulonglongs[self.initial_at]
            if self.store.next_live(sequence) == sequence:
                return sequence
            self.initial_at += 1
        self.audience.catch_up(self)
        sequence = self.matches.next(self.next_sequence)
        if sequence == 0:
            # Nothing matches up to the end: look no more at what is there.
            self.next_sequence = max(self.next_sequence, self.store.last_sequence + 1)
            self.unseen, self.counted_to = 0, self.store.last_sequence
            self.removed, self.is_counted = self.audience.lost(), True
            self.is_idle = len(self.requests) > 0
        return sequence

    cdef Request choose(self):
        if self.chooses:
            return self.policy.choose()
        if self.turn >= len(self.requests):
            self.turn = 0
        return <Request>self.requests[self.turn]

    cdef int drop(self, Request request, int reason) except -1:
        self.remove_request(request)
        self.policy.request_ended(request, reason)
        return 0

    cdef int deliver_next(self, int64_t now_ns) except -2:
        """Deliver one message; return its bytes, 0 if there is none to deliver, or -1 to look again."""
        cdef record_view_t view
        cdef Request request
        cdef pending_t* one
        cdef uint32_t deliveries = 1
        cdef uint64_t sequence = self.next_redelivery() if len(self.redelivering) else 0
        cdef uint64_t pending
        cdef bint is_again = sequence != 0
        if not is_again:
            if self.acknowledges and self.max_ack_pending >= 0 \
                    and <int64_t>self.state.pending_count >= self.max_ack_pending:
                return 0
            sequence = self.upcoming()
            if sequence == 0:
                return 0
        request = self.choose()
        if request is None:
            return 0
        if target_route(self.plane, &request.target).is_empty:
            self.drop(request, END_GONE)
            return -1
        pending = self.count_unseen() + self.count_initial()
        if pending and not is_again:
            pending -= 1
        if not self.store.peek(sequence, &view):
            if is_again:
                self.redelivering.discard(sequence)
                self.state.give_up_c(sequence)
                self.given_up.discard(sequence)
            else:
                self.advance(sequence)
            return -1
        if is_again:
            one = self.state.find(sequence)
            deliveries = one.deliveries + 1
            self.redeliveries.popleft()
            self.redelivering.discard(sequence)
        return self.send(request, &view, deliveries, pending, now_ns)

    cdef int advance(self, uint64_t sequence) except -1:
        """Count a message as looked at for the first time."""
        if self.initial is not None:
            self.initial_at += 1
            return 0
        self.next_sequence = sequence + 1
        if self.is_counted and self.unseen and sequence <= self.counted_to:
            self.unseen -= 1
        return 0

    cdef uint32_t write_reply(self, const record_view_t* view, uint32_t deliveries, uint64_t consumer_sequence,
                              uint64_t pending) noexcept:
        """Write the numbers of the ack subject behind its head; return its length."""
        cdef uint8_t* at = self.reply + self.reply_head
        at += write_decimal(at, deliveries)
        at[0] = c"."
        at += 1 + write_near(at + 1, view.sequence, &self.sequence_memo)
        at[0] = c"."
        at += 1 + write_near(at + 1, consumer_sequence, &self.consumer_sequence_memo)
        at[0] = c"."
        at += 1 + write_near(at + 1, <uint64_t>view.timestamp_ns // 100000000, &self.timestamp_memo)
        at += write_eight(at, <uint64_t>view.timestamp_ns)
        at[0] = c"."
        at += 1 + write_near(at + 1, pending, &self.pending_memo)
        return <uint32_t>(at - self.reply)

    cdef int send(self, Request request, const record_view_t* view, uint32_t deliveries, uint64_t pending,
                  int64_t now_ns) except -2:
        """Send one message to a request that has room for it; return as deliver_next does."""
        cdef uint64_t consumer_sequence = self.state.delivered_consumer + 1
        cdef uint64_t sequence = view.sequence
        cdef uint32_t length
        cdef int64_t size
        cdef const uint8_t* headers = view.headers
        cdef uint32_t headers_bytes = view.headers_bytes
        cdef uint32_t payload_bytes = view.payload_bytes
        cdef bytes block
        length = self.write_reply(view, deliveries, consumer_sequence, pending)
        size = view.subject_bytes + length + headers_bytes + payload_bytes
        if request.bytes_left >= 0 and size > request.bytes_left:
            if deliveries > 1:
                self.redelivering.add(sequence)
                self.redeliveries.appendleft(sequence)
            self.drop(request, END_TOO_LARGE)
            return -1
        if self.headers_only or self.extra_headers:
            block = self.changed_headers(headers[:headers_bytes], payload_bytes)
            headers, headers_bytes = <const uint8_t*>block, <uint32_t>len(block)
            if self.headers_only:
                payload_bytes = 0
        send_shown(self.plane, &request.target, view.subject, view.subject_bytes, self.reply, length, headers,
                   headers_bytes, view.payload, payload_bytes)
        self.state.delivered_c(consumer_sequence, sequence, deliveries, now_ns)
        self.last_delivered_ns = now_ns
        if deliveries == 1:
            self.advance(sequence)
        if not self.acknowledges and self.mode != RETENTION_KEEP:
            self.remove_acknowledged(sequence)
        request.delivered += 1
        request.sent_bytes += <uint64_t>size
        if request.bytes_left >= 0:
            request.bytes_left -= size
        self.turn += 1
        if request.remaining > 0:
            request.remaining -= 1
            if request.remaining == 0:
                self.drop(request, END_FILLED)
        return <int>size

    cdef bytes changed_headers(self, bytes headers, uint32_t payload_bytes):
        """Return the stored header block with what this consumer adds."""
        cdef bytes added = self.extra_headers
        if self.headers_only:
            added += b"Nats-Msg-Size: %d\r\n" % payload_bytes
        if not headers:
            return b"NATS/1.0\r\n" + added + b"\r\n"
        return headers[:len(headers) - 2] + added + b"\r\n"


# ---- holding up ------------------------------------------------------------------------------------------------

def held_up_by(DataPlane data_plane not None):
    """Return what deliveries have to wait for: A_RING, A_CLIENT that reads too slowly, or NOTHING.

    Asking clears the mark that a client has left. DataPlane.on_room says when the rings have room again.
    """
    cdef Plane* plane = data_plane.plane
    cdef bint is_pressed = plane.pressed
    plane.pressed = 0
    plane.backlogged = 0
    if peers_backlogged(plane):
        plane.wants_room = 1
        return A_RING
    return A_CLIENT if is_pressed else NOTHING
