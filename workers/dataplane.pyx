# cython: language_level=3, embedsignature=True, wraparound=False
"""The data plane of one worker as the rest of the worker sees it; what it does is in rounds.pyx."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from shm.layout cimport counters_t, wake_words_t
from shm.wake cimport wake_cancel_sleep, wake_prepare_sleep

from workers.clients cimport READ_BYTES, client_allow, client_refuse, conn_open
from workers.letters cimport letters_free
from workers.model cimport (
    CONN_AUTH_REQUIRED,
    CONN_HEADERS,
    CONN_INTERNAL,
    CONN_NO_ECHO,
    CONN_NO_RESPONDERS,
    CONN_PEDANTIC,
    CONN_PROTOCOL_1,
    CONN_VERBOSE,
    PEER_DOWN,
    SUB_LOCAL,
    SUB_STICKY,
    Account,
    CloseReason,
    Conn,
    Listener,
    Plane,
)
from workers.octets cimport OCTETS_SLACK, must_calloc, must_malloc
from workers.outbox cimport has_interest, send_message
from workers.output cimport conn_close, out_append, pool_trim
from workers.peers cimport (
    peer_attach,
    peer_detach,
    peer_free,
    peer_new,
    clients_must_wait,
    peers_backlogged,
    peers_can_tell_more,
    peers_have_input,
    peers_publish,
)
from workers.replies cimport fail_silently, fail_with
from workers.rounds cimport (
    ARENA_BYTES,
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLLET,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDHUP,
    EVENTS_MAX,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    linger,
    note_events,
    play_round,
    read_clock,
    stats_of,
)
from workers.routes cimport routes_free, routes_init
from workers.sinks cimport Sink
from workers.sublist cimport SUBJECT_INVALID, account_free, account_new, subject_kind
from workers.subscriptions cimport listen, unlisten
from workers.timers cimport timers_turn

import os
import struct

from workers.errors import CloseReason as Reason


cdef enum:
    ROUNDS_MAX = 32                # before other callbacks of the event loop get their turn
    TRIM_TICKS = 20
    SUBJECT_BYTES_MAX = 65535
    ANSWER_BYTES_MAX = 64 << 20    # of an answer of the JetStream API, which max_payload does not bound
    ACCOUNTS = 2                   # the clients' one, and INTERNAL_ACCOUNT

# The subject space in which workers call each other; no client can be in it.
INTERNAL_ACCOUNT = 1

OPTION_VERBOSE = CONN_VERBOSE
OPTION_PEDANTIC = CONN_PEDANTIC
OPTION_NO_ECHO = CONN_NO_ECHO
OPTION_HEADERS = CONN_HEADERS
OPTION_NO_RESPONDERS = CONN_NO_RESPONDERS
OPTION_PROTOCOL_1 = CONN_PROTOCOL_1


def do_nothing():
    """Take no notice."""


# ---- the face --------------------------------------------------------------------------------------------------

cdef Conn* conn_of(uint64_t handle) except NULL:
    if handle == 0:
        raise ValueError("no connection")
    return <Conn*>handle


cdef class DataPlane:
    """Everything that a worker does per message; see the module's docstring.

    A connection is named by the handle that open_client returned, which is good until the policy's closed() is called.
    """

    def __cinit__(self, region, int index, int worker_count, list doorbells, limits, policy, soon, later):
        """Make the data plane of worker `index`.

        Args:
            region: shm.region.Region; kept.
            doorbells: eventfd of every worker, by index.
            limits: workers.config.WorkerConfig.
            policy: workers.sessions.Sessions or the like.
            soon: called with a callable to run when the event loop has turned.
            later: called with seconds and a callable.
        Raises:
            OSError: no descriptor is left.
        """
        cdef Plane* plane = <Plane*>must_calloc(1, sizeof(Plane))
        cdef epoll_event event
        self.plane = plane
        self._region = region
        self.policy = policy
        self._soon = soon
        self._later = later
        plane.policy = <void*>policy
        plane.index = index
        plane.worker_count = worker_count
        plane.seed = int.from_bytes(os.urandom(8), "little")
        plane.random_state = int.from_bytes(os.urandom(8), "little") | 1
        plane.counters = <counters_t*><uint64_t>region.counters_address(index)
        plane.wake = <wake_words_t*><uint64_t>region.wake_address(index)
        plane.limits.max_payload = limits.max_payload
        plane.limits.max_control_line = limits.max_control_line
        plane.limits.max_pending = limits.max_pending
        plane.limits.max_subscriptions = limits.max_subscriptions
        plane.limits.max_sub_tokens = limits.max_sub_tokens
        plane.limits.ping_interval_ns = limits.ping_interval_ns
        plane.limits.ping_max = limits.ping_max
        plane.limits.write_deadline_ns = limits.write_deadline_ns
        plane.limits.auth_timeout_ns = limits.auth_timeout_ns
        plane.trace = limits.log_trace
        plane.arena = <uint8_t*>must_malloc(ARENA_BYTES + OCTETS_SLACK)
        plane.scratch = <uint8_t*>must_malloc(plane.limits.max_control_line + 2 * OCTETS_SLACK)
        plane.face = <void*>self
        plane.internal = <Conn*>must_calloc(1, sizeof(Conn))
        plane.internal.flags = CONN_INTERNAL | CONN_HEADERS
        plane.internal.fd = -1
        plane.accounts = <Account**>must_calloc(ACCOUNTS, sizeof(Account*))
        for i in range(ACCOUNTS):
            plane.accounts[i] = account_new(i)
        plane.account_count = ACCOUNTS
        self.on_notified = self.on_room = self.on_letters_taken = do_nothing
        self._listeners = {}
        self.dropped_sinks = []
        routes_init(plane)
        read_clock(plane)
        plane.wheel_ns = plane.now_ns
        plane.read_bytes = READ_BYTES
        for i in range(worker_count):
            if i != index:
                plane.peers[i] = peer_new(i, doorbells[i], region.wake_address(i),
                                          2 * plane.limits.max_payload + ANSWER_BYTES_MAX)
        plane.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        plane.doorbell = doorbells[index]
        memset(&event, 0, sizeof(event))
        event.events = EPOLLIN | EPOLLET
        if plane.epoll_fd < 0 or epoll_ctl(plane.epoll_fd, EPOLL_CTL_ADD, plane.doorbell, &event) < 0:
            raise OSError("no epoll set for the data plane")

    def __dealloc__(self):
        cdef uint32_t i
        cdef Plane* plane = self.plane
        if plane is NULL:
            return
        for i in range(plane.worker_count):
            if plane.peers[i] is not NULL:
                peer_free(plane, plane.peers[i])
        routes_free(plane)
        for i in range(plane.account_count):
            account_free(plane.accounts[i])
        free(plane.accounts)
        letters_free(plane)
        free(plane.internal)
        free(plane.outbox)
        free(plane.shown_prefix)
        free(plane.arena)
        free(plane.scratch)
        free(plane.matched)
        free(plane.spent)
        free(plane.retired)
        free(plane.names)
        free(plane.picks)
        for _ in range(64):
            pool_trim(plane)
        if plane.epoll_fd > 0:
            os.close(plane.epoll_fd)
        free(plane)

    def fileno(self):
        """Return the descriptor that is readable when run() has something to do."""
        return self.plane.epoll_fd

    # ---- peers

    def attach_peer(self, uint32_t peer, uint32_t epoch_out, uint32_t epoch_in):
        """Join the rings to and from another worker, and begin to tell it our interest.

        Raises:
            ValueError: a ring is of another epoch.
        """
        region = self._region
        cdef uint32_t me = self.plane.index
        if peer_attach(self.plane, self.plane.peers[peer], region.data_ring_address(me, peer),
                       region.control_ring_address(me, peer), epoch_out, region.data_ring_address(peer, me),
                       region.control_ring_address(peer, me), epoch_in) < 0:
            raise ValueError(f"the rings of worker {peer} are not of the epochs {epoch_out} and {epoch_in}")
        self.run()

    def detach_peer(self, uint32_t peer):
        """Leave the rings of a worker that died and forget its interest."""
        peer_detach(self.plane, self.plane.peers[peer])
        self.run()

    @property
    def is_synced(self):
        """Whether every attached peer has told all its interest."""
        cdef uint32_t i
        for i in range(self.plane.worker_count):
            if self.plane.peers[i] is not NULL and self.plane.peers[i].state != PEER_DOWN \
                    and not self.plane.peers[i].sync_received:
                return False
        return True

    def hold_peers(self):
        """Leave messages of other workers in their rings until take_peers, so that none comes before all interest."""
        self.plane.is_joining = 1

    def take_peers(self):
        """Begin to handle messages of other workers."""
        self.plane.is_joining = 0
        self.run()

    # ---- this worker's own subscriptions and messages

    def listen(self, uint32_t account, bytes subject, Sink sink, *, bint is_local=False, bint is_sticky=False,
               excluded=()):
        """Have messages on a subject go to a sink; return a number for unlisten.

        Args:
            is_local: other workers do not know of it, and only what is published on this worker gets there.
            is_sticky: while this worker is dead, the others keep messages for it and deliver them when it is back.
            excluded: prefixes of subjects that it does not take (and does not answer for, see no_responders).
        Raises:
            ValueError: the subject is invalid, or the sink listens in another account.
        """
        cdef uint16_t flags = (SUB_LOCAL if is_local else 0) | (SUB_STICKY if is_sticky else 0)
        cdef Listener* listener
        cdef bytes prefixes = b"".join(struct.pack("=I", len(prefix)) + prefix for prefix in excluded)
        if subject_kind(subject, <uint32_t>len(subject)) == SUBJECT_INVALID or len(subject) > SUBJECT_BYTES_MAX:
            raise ValueError(f"invalid subject {subject!r}")
        if sink.listeners and sink.account != account:
            raise ValueError(f"the sink listens in account {sink.account}")
        listener = listen(self.plane, account, subject, <uint32_t>len(subject), <void*>sink, flags)
        if prefixes:
            listener.excluded = <uint8_t*>must_malloc(len(prefixes))
            listener.excluded_length = <uint32_t>len(prefixes)
            memcpy(listener.excluded, <const uint8_t*>prefixes, len(prefixes))
        sink.plane = self.plane
        sink.account = account
        sink.listeners += 1
        self._listeners[<uint64_t>listener] = sink
        self._run_soon()
        return <uint64_t>listener

    def unlisten(self, uint64_t listener):
        """End what listen began.

        Raises:
            KeyError: it has ended.
        """
        cdef Sink sink = self._listeners.pop(listener)
        unlisten(self.plane, <Listener*>listener)
        sink.listeners -= 1
        if sink.listeners == 0:
            sink.plane = NULL
        if self.plane.letter_count:
            self.dropped_sinks.append(sink)    # letters may still name it
        self._run_soon()

    def publish(self, uint32_t account, bytes subject, bytes payload, *, bytes reply=b"", bytes headers=b""):
        """Publish a message of this worker itself; it is written when the round ends.

        Args:
            subject: literal and valid. headers: a whole header block, or b"".
        Returns:
            How many took it, another worker's plain subscriptions counted as one.
        """
        cdef uint32_t taken = send_message(self.plane, account, subject, <uint32_t>len(subject), reply,
                                           <uint32_t>len(reply), headers, <uint32_t>len(headers), payload,
                                           <uint64_t>len(payload))
        self._run_soon()
        return taken

    def has_interest(self, uint32_t account, bytes subject, *, bytes queue=b""):
        """Return whether anybody anywhere subscribes to the subject, in this queue if one is named."""
        return bool(has_interest(self.plane, account, subject, <uint32_t>len(subject), queue, <uint32_t>len(queue)))

    @property
    def interest_epoch(self):
        """Grows whenever anybody's interest changes."""
        return self.plane.route_epoch

    cdef int _run_soon(self) except -1:
        """See to it that run() comes soon, if this is not inside of it."""
        if not self._is_running and not self._soon_is_set:
            self._soon_is_set = True
            self._soon(self._run_now)
        return 0

    def _run_now(self):
        self._soon_is_set = False
        self.run()

    # ---- running

    def watch(self, int fd):
        """Call `on_notified` within run() whenever this descriptor has become readable.

        Raises:
            OSError: the descriptor cannot be watched.
        """
        self._watch(fd, &self.plane.notified)

    cdef int _watch(self, int fd, void* mark) except -1:
        cdef epoll_event event
        memset(&event, 0, sizeof(event))
        event.events = EPOLLIN | <uint32_t>EPOLLET
        event.data.ptr = mark
        if epoll_ctl(self.plane.epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0:
            raise OSError(f"descriptor {fd} cannot be watched")
        return 0

    def watch_link(self, int fd, int64_t spin_ns):
        """Let run() linger, but not longer than until this descriptor is readable.

        A worker in the middle of a conversation waits for its next event in the data plane's own epoll set for a
        millisecond before it goes back to the event loop; that saves a system call and the way through Python on every
        turn of a request. The event loop's timers are late by that much at the most, its link to the supervisor is not.

        Args:
            spin_ns: how much of that time it polls instead of sleeping. An idle processor takes long to wake, longer
                than a whole request; but polling pays only where a core is left for whoever sends the next message.
        Raises:
            OSError: the descriptor cannot be watched.
        """
        self._watch(fd, self.plane)
        self.plane.spin_ns = spin_ns
        self._lingers = True

    @property
    def is_store_full(self):
        """Whether clients that publish to this worker's listeners are held back, because the store is behind."""
        return bool(self.plane.store_full)

    @is_store_full.setter
    def is_store_full(self, bint is_full):
        self.plane.store_full = is_full

    def return_soon(self):
        """Have run(), if this is inside of it, not linger: the event loop has something to do."""
        self.plane.link_waits = 1

    def run(self, bint may_linger=True):
        """Do what there is to do; to be called when fileno() is readable and whenever soon or later say.

        Args:
            may_linger: False when the event loop has something to do already.
        """
        cdef epoll_event events[EVENTS_MAX]
        cdef int count, turn = 0, more = 1
        cdef Plane* plane = self.plane
        if self._is_running:
            return
        self._is_running = True
        plane.link_waits = not may_linger
        wake_cancel_sleep(plane.wake)
        count = epoll_wait(plane.epoll_fd, events, EVENTS_MAX, 0)
        while turn < ROUNDS_MAX:
            turn += 1
            more = play_round(plane, events, count) or self._sleep_or_find_work()
            if more:
                count = epoll_wait(plane.epoll_fd, events, EVENTS_MAX, 0)
                continue
            if not self._lingers or not plane.has_worked or plane.link_waits or plane.stalled is not NULL:
                break
            with nogil:
                count = linger(plane, events)
            if count <= 0:
                break
            wake_cancel_sleep(plane.wake)
            more = 1
        self._is_running = False
        if more:
            if count > 0:                      # events were taken for a round that has not been played
                note_events(plane, events, count)
            self._soon(self.run)
        elif plane.stalled is not NULL and not self._later_is_set:
            self._later_is_set = True
            self._later(0.005, self._run_later)

    cdef bint _sleep_or_find_work(self):
        """Announce that this worker sleeps; return whether it may not, because something came meanwhile.

        Frames and room in a ring that came before the announcement rang no doorbell, so all rings are looked at after
        it; peers_publish asks again for room where frames still wait.
        """
        cdef Plane* plane = self.plane
        wake_prepare_sleep(plane.wake)
        if plane.worker_count == 1:
            return plane.waiting is not NULL and not plane.store_full
        peers_publish(plane)
        if plane.wake.control_pending or peers_have_input(plane) or peers_can_tell_more(plane) \
                or (plane.waiting is not NULL and not clients_must_wait(plane)) \
                or (plane.wants_room and not peers_backlogged(plane)):
            wake_cancel_sleep(plane.wake)
            return True
        return False

    def _run_later(self):
        self._later_is_set = False
        self.run()

    def tick(self):
        """Look at deadlines; to be called every 50 ms or so while there are connections."""
        read_clock(self.plane)
        timers_turn(self.plane)
        self._ticks += 1
        if self._ticks % TRIM_TICKS == 0:
            pool_trim(self.plane)
        self.run()

    # ---- clients

    def open_client(self, int fd, uint64_t client_id, bint auth_required, bytes info):
        """Take over a connected socket and send INFO; return its handle.

        A socket that cannot be watched is closed like any connection that breaks, so the policy hears of its end.
        """
        cdef epoll_event event
        cdef Conn* conn
        cdef uint32_t flags = CONN_VERBOSE | CONN_PEDANTIC | (CONN_AUTH_REQUIRED if auth_required else 0)
        memset(&event, 0, sizeof(event))
        read_clock(self.plane)
        conn = conn_open(self.plane, fd, client_id, flags)
        event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | <uint32_t>EPOLLET
        event.data.ptr = conn
        # What is readable already gives the first edge.
        if epoll_ctl(self.plane.epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0:
            conn_close(self.plane, conn, <CloseReason><int>Reason.READ_ERROR)
        out_append(self.plane, conn, <const uint8_t*>info, <size_t>len(info))
        return <uint64_t>conn

    def send(self, uint64_t handle, bytes line):
        """Queue a whole protocol line for a client; run() writes it."""
        out_append(self.plane, conn_of(handle), <const uint8_t*>line, <size_t>len(line))

    def fail(self, uint64_t handle, bytes text, int reason):
        """Send -ERR 'text' (nothing if empty) and close the connection once its output is written."""
        if text:
            fail_with(self.plane, conn_of(handle), text, <CloseReason>reason)
        else:
            fail_silently(self.plane, conn_of(handle), <CloseReason>reason)

    def allow(self, uint64_t handle, uint32_t options):
        """Go on with a connection whose CONNECT the policy did not decide at once: OPTION_* bits."""
        client_allow(self.plane, conn_of(handle), options)

    def refuse(self, uint64_t handle, error):
        """End such a connection as the ProtocolError says."""
        client_refuse(self.plane, conn_of(handle), error)

    def stats(self, uint64_t handle):
        """Return counters and times of a connection; see stats_of."""
        return stats_of(self.plane, conn_of(handle))
