"""The compiled core of one consumer: what it delivers next, and to whom."""
from cpython cimport array
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from storage.consumer cimport ConsumerStore
from storage.queries cimport Matches
from storage.reader cimport record_view_t
from storage.stream cimport StreamStore
from storage.subjects cimport SubjectFilter
from workers.jetstream.audience cimport Waiter
from workers.jetstream.ingest cimport Acks
from workers.model cimport Plane
from workers.octets cimport decimal_memo_t
from workers.outbox cimport Target


cdef class Request:
    cdef readonly bytes reply
    cdef public int64_t remaining          # messages; -1: no end
    cdef public int64_t bytes_left         # -1: no limit
    cdef public uint64_t delivered
    cdef public uint64_t sent_bytes        # of messages delivered: subject, reply, headers, payload
    cdef public object info
    cdef readonly bint is_waiting          # a core has it
    cdef Target target


cdef class ConsumerCore(Waiter):
    cdef Plane* plane
    cdef Acks acks
    cdef readonly object stream
    cdef readonly str name
    cdef readonly ConsumerStore state
    cdef StreamStore store
    cdef SubjectFilter filter
    cdef Matches matches                   # of the filter, from next_sequence on
    cdef readonly list requests
    cdef Py_ssize_t turn                   # whose turn it is among them
    cdef public int64_t max_ack_pending    # -1: no limit
    cdef public int64_t max_deliver        # -1: no limit
    cdef public bint headers_only
    cdef public bint is_paused
    cdef public bytes extra_headers        # lines for every message, each with its CR LF
    cdef public bint samples               # the policy hears of every acknowledgement
    cdef readonly int64_t last_delivered_ns
    cdef int64_t acked_ns                  # Plane.now_ns at the last acknowledgement, 0: there was none
    cdef bint acknowledges                 # it has an ack policy
    cdef public int mode                   # Retention
    cdef array.array initial               # uint64 sequences to deliver before those from next_sequence on, or None
    cdef Py_ssize_t initial_at             # how many of them are done with
    cdef object redeliveries               # deque of sequences
    cdef set redelivering                  # the same
    cdef set given_up                      # the state's
    cdef uint64_t unseen                   # matching messages from next_sequence on, up to counted_to
    cdef uint64_t counted_to
    cdef uint64_t removed                  # Audience.lost, when they were counted
    cdef bint is_counted
    cdef uint8_t* reply                    # "$JS.ACK.<stream>.<consumer>." and room for the numbers
    cdef uint32_t reply_head
    cdef decimal_memo_t sequence_memo      # numbers of the reply written last
    cdef decimal_memo_t consumer_sequence_memo
    cdef decimal_memo_t timestamp_memo     # its digits but the last eight
    cdef decimal_memo_t pending_memo

    cdef uint64_t upcoming(self) except? 0
    cdef uint64_t count_unseen(self) except? 0xFFFFFFFFFFFFFFFF
    cdef uint64_t count_initial(self) noexcept
    cdef bint is_initial(self, uint64_t sequence) noexcept
    cdef int drop_gone_initial(self) except -1
    cdef bytes changed_headers(self, bytes headers, uint32_t payload_bytes)
    cdef Request choose(self)
    cdef int drop(self, Request request, int reason) except -1
    cdef int send(self, Request request, const record_view_t* view, uint32_t deliveries, uint64_t pending,
                  int64_t now_ns) except -2
    cdef int deliver_many(self, int64_t now_ns, int64_t count_max, int64_t* sent, int64_t* bytes_max) except -1
    cdef int deliver_next(self, int64_t now_ns) except -2
    cdef uint64_t next_redelivery(self) except? 0
    cdef int forget_gone_given_up(self) except -1
    cdef int advance(self, uint64_t sequence) except -1
    cdef uint32_t write_reply(self, const record_view_t* view, uint32_t deliveries, uint64_t consumer_sequence,
                              uint64_t pending) noexcept
    cdef int acknowledge_c(self, uint64_t sequence, uint64_t consumer_sequence) except -1
    cdef list acknowledged_before(self, uint64_t sequence)
    cdef int remove_acknowledged(self, uint64_t sequence) except -1
