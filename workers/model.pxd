"""The data plane's structs: what a worker knows about its clients, subjects, routes and peers.

Structs and constants only; the module that owns each group of functions is named beside it. All of it belongs to one
thread of one process, so nothing here is locked.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from shm.layout cimport counters_t, wake_words_t
from shm.ring cimport ring_consumer_t, ring_producer_t
from shm.fragment cimport fragment_reader_t, fragment_writer_t


cdef enum:
    WORKERS_MAX = 64               # remote interest is one 64-bit mask per pattern


# ---- output (output.pyx) ---------------------------------------------------------------------------------------

cdef struct Chunk:                 # a piece of what a client is still to be sent
    Chunk* next
    uint8_t* start                 # first byte not yet written to the socket
    uint8_t* end                   # one past the last byte; stale in the tail chunk, see Conn.cursor
    uint8_t* limit                 # one past the last byte that may be used
    uint32_t size_class            # which pool it goes back to; 0: start..end lie in the read arena or in a ring


cdef struct ChunkPool:
    Chunk* free[6]                 # by size class
    uint32_t free_count[6]


# ---- clients (clients.pyx) -------------------------------------------------------------------------------------

cdef enum ConnFlag:
    CONN_CONNECTED = 1 << 0        # CONNECT was accepted
    CONN_VERBOSE = 1 << 1
    CONN_PEDANTIC = 1 << 2
    CONN_NO_ECHO = 1 << 3
    CONN_HEADERS = 1 << 4          # the client can receive HMSG and send HPUB
    CONN_NO_RESPONDERS = 1 << 5
    CONN_AUTH_REQUIRED = 1 << 6    # nothing but CONNECT is accepted yet
    CONN_PONG_SENT = 1 << 7        # its first PING after CONNECT was answered, with INFO if it understands that
    CONN_PROTOCOL_1 = 1 << 8       # understands asynchronous INFO
    CONN_READY = 1 << 9            # in the list of sockets to read
    CONN_DIRTY = 1 << 10           # in the list of connections to flush
    CONN_BLOCKED = 1 << 11         # the socket took no more; waiting for it to become writable
    CONN_CLOSING = 1 << 12         # in the list of connections to close; neither read nor delivered to
    CONN_FLUSH_CLOSE = 1 << 13     # no more input; closed as soon as its output is written
    CONN_PAUSED = 1 << 14          # not read: waiting for a peer, stalled, or its credentials are being checked
    CONN_STALL = 1 << 16           # published to a client that is close to its limit
    CONN_FIRST_PING_SENT = 1 << 17
    CONN_STALLED = 1 << 18         # in the list of stalled publishers
    CONN_BORROWS = 1 << 19         # its output refers to the read arena or a ring
    CONN_OK_DUE = 1 << 20          # owed a +OK, sent when its interest is known to all workers
    CONN_WAITING = 1 << 21         # in Plane.waiting
    CONN_UNPARSED = 1 << 22        # its partial bytes may hold whole operations: parse before reading on
    CONN_HUNG_UP = 1 << 23         # the client has closed its side: read until the end
    CONN_CHECKING = 1 << 24        # its credentials are being checked elsewhere
    CONN_INTERNAL = 1 << 25        # no client: it stands for the listeners of this worker, see letters.pyx
    CONN_OPTIONS = 0x17E           # VERBOSE..AUTH_REQUIRED and PROTOCOL_1: what CONNECT sets


cdef enum CloseReason:             # the words of nats-server, see clients.CLOSE_REASONS
    CLOSE_CLIENT = 0
    CLOSE_AUTH_TIMEOUT
    CLOSE_AUTH_FAILURE
    CLOSE_SLOW_PENDING
    CLOSE_SLOW_DEADLINE
    CLOSE_WRITE_ERROR
    CLOSE_READ_ERROR
    CLOSE_PARSE_ERROR
    CLOSE_STALE
    CLOSE_PROTOCOL
    CLOSE_BAD_VERSION
    CLOSE_MAX_CONNECTIONS
    CLOSE_MAX_PAYLOAD
    CLOSE_MAX_CONTROL_LINE
    CLOSE_NO_RESPONDERS_HEADERS
    CLOSE_SHUTDOWN


cdef struct Conn:                  # one client connection
    # What a delivery touches, first cache line.
    uint8_t* cursor                # where the next byte to send goes, in out_tail
    uint8_t* limit                 # end of the room in out_tail
    uint32_t flags                 # ConnFlag
    int fd
    uint64_t out_msgs
    uint64_t out_bytes
    Conn* next_dirty
    Chunk* out_tail
    Chunk* out_head
    # Second line: output that is rarely looked at, and input.
    uint64_t queued                # bytes to send in the chunks before out_tail
    Route* memo                    # route of the last published subject
    uint64_t memo_epoch            # memo is valid while this equals Plane.route_epoch
    uint64_t in_msgs
    uint64_t in_bytes
    uint8_t* partial               # start of a message whose rest has not arrived
    uint32_t partial_offset        # of what a pause left unparsed, else 0
    uint32_t partial_length        # bytes from the offset on
    uint32_t partial_need          # length of the whole message; 0 while its control line is incomplete
    # Identity and subscriptions.
    uint64_t client_id
    Sub** sids                     # hash table by sid, linear probing
    uint32_t sid_count
    uint32_t sid_capacity          # a power of two, or 0
    uint32_t account
    uint8_t close_reason
    uint8_t pings_out
    uint16_t wheel_slot
    Conn* next_ready
    Conn* next_waiting
    Conn* next_stalled
    Conn* next_closing
    Conn* wheel_next
    Conn* wheel_previous
    int64_t started_ns
    int64_t last_input_ns
    int64_t blocked_since_ns       # when the socket stopped taking output
    int64_t due_ns                 # when the timer wheel must look at it
    int64_t ping_due_ns
    int64_t ping_sent_ns
    int64_t rtt_ns
    int64_t resume_ns              # end of its stall


cdef enum SubFlag:
    SUB_SPENT = 1                  # got its last message; freed when that has been delivered to everybody
    SUB_LOCAL = 2                  # a listener that other workers do not know of
    SUB_STICKY = 4                 # a listener whose messages wait while this worker is dead


cdef struct Sub:                   # one subscription of a client
    Conn* conn
    Interest* interest
    QueueGroup* queue              # NULL: plain
    uint64_t delivered
    uint64_t max_deliveries        # 0: no limit
    uint32_t position              # index among the plain subscriptions or the queue's members
    uint16_t sid_length
    uint16_t flags
    uint8_t sid[4]                 # sid_length bytes


cdef struct Listener:              # a subscription of this worker itself
    Sub sub                        # its conn is Plane.internal; it has no sid
    void* sink                     # sinks.Sink, kept alive by the DataPlane
    uint8_t* excluded              # prefixes of subjects it does not take: each a u32 length and its bytes
    uint32_t excluded_length


# ---- subjects (sublist.pyx) ------------------------------------------------------------------------------------

cdef struct Special:               # what few subjects have: listeners that are local or sticky
    uint64_t remote_sticky         # bit per worker that wants its messages kept while it is dead
    uint64_t parked                # bit per worker that is dead, or has not told this interest since it is back
    uint32_t local_only            # of the plain subscriptions, those that other workers do not know of
    uint32_t sticky                # likewise, the sticky ones


cdef struct Interest:              # a subscribed subject, literal or with wildcards
    uint64_t hash
    Sub** plain                    # this worker's plain subscriptions; the only one itself if plain_capacity is 0
    uint32_t plain_count
    uint32_t plain_capacity
    QueueGroup* queues
    uint64_t remote_plain          # bit per worker that has plain subscriptions
    Interest* local_next           # list of the subjects that this worker's clients subscribe to
    Interest* local_previous
    Special* special               # mostly NULL
    uint32_t account
    uint16_t subject_length
    uint8_t is_wildcard
    uint8_t is_local               # in that list
    uint8_t subject[8]             # subject_length bytes


cdef struct QueueGroup:            # a queue name on one subject
    QueueGroup* next
    Sub** members                  # this worker's
    uint32_t member_count
    uint32_t member_capacity
    uint32_t* remote_members       # count per worker, NULL while there are none
    uint16_t name_length
    uint8_t name[6]                # name_length bytes


cdef struct TrieNode:              # one token of subscribed subjects with wildcards
    TrieNode* parent
    TrieNode* star                 # what follows a `*` here
    TrieNode** children            # hash table by token, linear probing
    uint32_t child_count
    uint32_t child_capacity
    Interest* ends                 # a subject ends with this token
    Interest* ends_star            # a subject ends with `*` after this token
    Interest* ends_full            # a subject ends with `>` after this token
    uint32_t token_hash
    uint16_t token_length          # the token `*` of a star node has length 0
    uint8_t token[2]


cdef struct Account:               # one subject space
    uint32_t index
    Interest** literals            # hash table by subject, linear probing
    uint64_t literal_count
    uint64_t literal_capacity
    TrieNode* wildcards
    uint64_t wildcard_count
    uint64_t wildcard_version      # grows with every change of a wildcard's interest
    Interest* local_head           # subjects with local interest, newest first


# ---- routes (routes.pyx) ---------------------------------------------------------------------------------------

cdef struct Delivery:              # one subscription that gets a message
    Conn* conn
    Sub* sub
    uint8_t* prefix                # "HMSG <subject> <sid> ", inside the route
    uint64_t prefix_length


cdef struct QueueChoice:           # a queue name and everybody in it, whatever subject they subscribed to
    Delivery* members              # this worker's, inside the route
    uint32_t member_count
    uint32_t remote_total
    uint32_t* remote_members       # per worker, inside the route; NULL when remote_total is 0
    uint8_t* name
    uint32_t name_length


cdef struct Route:                 # where messages on one subject go
    Route* next                    # in its bucket of the cache
    uint64_t hash
    uint64_t version               # Account.wildcard_version it was made at
    uint64_t remote_plain          # workers with plain subscriptions
    Delivery* plain
    QueueChoice* queues
    uint32_t plain_count
    uint32_t queue_count
    uint32_t is_empty              # nobody anywhere
    uint32_t account
    uint32_t subject_length
    uint8_t* subject


cdef struct Message:               # a published message on its way; nothing in it is owned
    uint8_t* subject
    uint8_t* shown                 # the subject that subscribers see, if it is another: shown_length > 0
    uint8_t* reply
    uint8_t* tail                  # "[reply ][#hdr ]#total\r\n<headers and payload>\r\n"
    uint32_t subject_length
    uint32_t shown_length
    uint32_t reply_length          # 0: none
    uint32_t tail_length
    uint32_t size                  # headers and payload
    int32_t header_size            # -1: none
    uint32_t account
    uint32_t hops                  # workers that passed it on
    int may_borrow                 # the tail stays as it is until the round's flush is over
    int from_peer
    Conn* publisher                # NULL: it came from another worker, or is one of this worker itself
    uint64_t client_id             # of the publisher, for sinks; 0: none


cdef struct Letter:                # a message for a sink, handed over at the end of the round (letters.pyx)
    Message message
    void* sink


cdef struct LetterChunk:           # memory of letters whose bytes do not stay where they are
    LetterChunk* next
    size_t used
    size_t size


# ---- peers (peers.pyx) -----------------------------------------------------------------------------------------

cdef enum PeerState:
    PEER_DOWN = 0
    PEER_SYNCING = 1               # attached; our interest is being sent, or theirs has not all arrived
    PEER_UP = 2


cdef struct Frame:                 # a message or control frame waiting for room in a ring
    Frame* next
    uint32_t length
    uint8_t body[4]


cdef struct Backlog:
    Frame* head
    Frame* tail
    uint64_t bytes


cdef struct Peer:                  # another worker
    uint32_t index
    uint32_t state
    uint32_t sync_sent             # all our interest, and the mark after it, is in the ring
    uint32_t sync_received
    uint32_t dirty                 # frames were committed since the last publish
    uint32_t control_dirty
    int doorbell
    wake_words_t* wake
    ring_producer_t data_out
    ring_producer_t control_out
    ring_consumer_t data_in
    ring_consumer_t control_in
    fragment_writer_t data_writer
    fragment_reader_t data_reader
    Backlog data_backlog
    Backlog control_backlog
    Interest* sync_cursor          # next subject to tell during a resync
    uint32_t sync_account
    Route* memo                    # route of the last subject that came from this worker
    uint64_t memo_epoch
    uint32_t sweeps                # it is back from the dead: what it does not tell again is to be forgotten


# ---- the whole (dataplane.pyx) ---------------------------------------------------------------------------------

cdef struct Limits:                # bytes, numbers, nanoseconds
    uint64_t max_payload
    uint64_t max_control_line
    uint64_t max_pending
    uint64_t max_subscriptions
    uint64_t max_sub_tokens
    int64_t ping_interval_ns
    int64_t ping_max
    int64_t write_deadline_ns
    int64_t auth_timeout_ns


cdef struct Plane:                 # everything that one worker knows
    int epoll_fd
    int doorbell                   # eventfd that other workers write to wake this one
    uint32_t index                 # this worker
    uint32_t worker_count
    uint64_t seed                  # of hashes
    uint64_t random_state
    int64_t now_ns                 # monotonic clock, read once per round
    Limits limits
    counters_t* counters
    wake_words_t* wake
    uint8_t* arena                 # blocks read from sockets in this round
    uint64_t arena_used
    uint64_t read_bytes            # how much to read of one connection
    uint64_t round_in              # messages read and delivered up to the end of the last round
    uint64_t round_out
    Conn* ready_head
    Conn* ready_tail
    Conn* dirty
    Conn* closing
    Conn* stalled                  # publishers held back until Conn.resume_ns
    Conn* waiting                  # clients not read until no peer has a backlog
    Sub** spent                    # subscriptions that got their last message while it was being delivered
    uint32_t spent_count
    uint32_t spent_capacity
    Interest** matched             # scratch of sublist.interest_match
    uint32_t matched_count
    uint32_t matched_capacity
    ChunkPool pool
    Account** accounts
    uint32_t account_count
    Route** routes                 # cache: buckets of chains
    uint64_t route_capacity
    uint64_t route_count
    uint64_t route_epoch           # grows whenever a route is freed or may be stale
    Peer* peers[64]                # by worker; NULL for this one
    uint32_t backlogged            # a frame of the operation in hand had to wait: hold the client back
    uint32_t ring_borrowed         # output refers to frames in a ring: release them after the flush
    uint8_t* scratch               # room for a control line
    void** retired                 # buffers to free when the round's output is written
    uint32_t retired_count
    uint32_t retired_capacity
    Conn* wheel[256]               # connections by when a timer is due, see timers.pyx
    int64_t wheel_ns               # up to when the wheel has been turned
    int64_t spin_ns                # how long to poll for the next event before sleeping
    Conn* internal                 # the connection of all listeners
    Letter* letters
    uint64_t letter_count
    uint64_t letter_capacity
    LetterChunk* letter_chunks     # the one in use first
    uint8_t* outbox                # the message that this worker is publishing
    uint64_t outbox_capacity
    uint8_t* shown_prefix          # of a message that is shown under another subject
    uint64_t shown_capacity
    int store_full                 # the store is behind: who publishes into it is held back
    int pressed                    # what this worker publishes itself meets a connection close to its limit
    int notified                   # a watched descriptor has become readable
    int wants_room                 # deliveries of this worker wait until no peer has a backlog
    int has_room                   # that is so now, and is to be told
    int is_joining                 # not all peers have told their interest yet: their messages wait
    int has_worked                 # the last round had events or frames
    int link_waits                 # the supervisor has said something
    int trace                      # tell the policy every operation
    void* policy                   # Python object that decides, see sessions.py
    void* face                     # the DataPlane of this
    uint8_t* names                 # queue names that go with one frame
    uint32_t names_length
    uint32_t names_capacity
    uint32_t* picks                # worker picked for each queue name of the message in hand
    uint32_t picks_capacity
