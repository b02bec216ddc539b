# cython: language_level=3, embedsignature=True, wraparound=False
"""The data plane of one worker: its event rounds, and the face that the rest of the worker sees.

All client sockets and the doorbell are in one epoll set, edge-triggered, whose descriptor is one reader of the worker's
event loop. So however many sockets are ready, Python is entered once, and pausing a client needs no system call.

A round: take events; look how far the data rings are filled, apply control frames, handle the data; read one block of
every ready socket; publish to the peers; write every connection with output once; free what was closed. The order is
the causality rule of ARCHITECTURE.md: control frames are applied after input was received and before it is handled,
and published before output is written.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from shm.layout cimport counters_t, wake_words_t
from shm.ring cimport ring_poll, ring_release
from shm.wake cimport wake_cancel_sleep, wake_prepare_sleep

from workers.clients cimport client_allow, client_refuse, conn_free, conn_open, conn_read, conn_ready, conn_resume
from workers.clients cimport READ_BYTES, ROUND_BYTES_MIN
from workers.delivery cimport deliver_from_peer
from workers.model cimport (
    CLOSE_SLOW_PENDING,
    CONN_AUTH_REQUIRED,
    CONN_BLOCKED,
    CONN_BORROWS,
    CONN_CLOSING,
    CONN_DIRTY,
    CONN_HEADERS,
    CONN_HUNG_UP,
    CONN_NO_ECHO,
    CONN_NO_RESPONDERS,
    CONN_PAUSED,
    CONN_PEDANTIC,
    CONN_PROTOCOL_1,
    CONN_READY,
    CONN_VERBOSE,
    PEER_DOWN,
    Account,
    CloseReason,
    Conn,
    Peer,
    Plane,
)
from workers.octets cimport OCTETS_SLACK, must_calloc, must_malloc
from workers.output cimport conn_close, out_append, out_commit, out_discard, out_flush, out_own, out_pending, pool_trim
from workers.peers cimport (
    peer_attach,
    peer_detach,
    peer_free,
    peer_new,
    peer_wake,
    peers_backlogged,
    peers_can_tell_more,
    peers_have_input,
    peers_publish,
    peers_take_control,
)
from workers.replies cimport fail_silently, fail_with
from workers.routes cimport routes_free, routes_init
from workers.sublist cimport account_free, account_new
from workers.timers cimport timer_blocked, timers_turn

import os

from workers.errors import CloseReason as Reason


cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLRDHUP
        EPOLLHUP
        EPOLLERR
        EPOLLET
        EPOLL_CTL_ADD
        EPOLL_CLOEXEC
    ctypedef union epoll_data_t:
        void* ptr
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll_fd, int operation, int fd, epoll_event* event)
    int epoll_wait(int epoll_fd, epoll_event* events, int count, int timeout_ms)


cdef extern from "<sched.h>" nogil:
    int sched_yield()


cdef enum:
    EVENTS_MAX = 256
    ROUNDS_MAX = 32                # before other callbacks of the event loop get their turn
    LINGER_MS = 1
    ARENA_BYTES = 1 << 20          # read in one round before everything is written
    PEER_BYTES_MAX = 1 << 18       # handled of one peer's ring before it gets the space back
    TRIM_TICKS = 20
    # What is read becomes as much output for every subscriber. Measured with 8 subscribers: reading 256 KiB at once
    # cost 100 ns of kernel time per delivery, 128 KiB 50 ns, since the output then stays in the second-level cache.
    FAN_OUT = 3
    READ_BYTES_FEW = READ_BYTES >> 1

OPTION_VERBOSE = CONN_VERBOSE
OPTION_PEDANTIC = CONN_PEDANTIC
OPTION_NO_ECHO = CONN_NO_ECHO
OPTION_HEADERS = CONN_HEADERS
OPTION_NO_RESPONDERS = CONN_NO_RESPONDERS
OPTION_PROTOCOL_1 = CONN_PROTOCOL_1


cdef void read_clock(Plane* plane) noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    plane.now_ns = <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


# ---- one round -------------------------------------------------------------------------------------------------

cdef void note_events(Plane* plane, epoll_event* events, int count) noexcept nogil:
    """Note which sockets can be read and written."""
    cdef int i
    cdef uint32_t happened
    cdef Conn* conn
    for i in range(count):
        conn = <Conn*>events[i].data.ptr
        if conn is NULL:
            # The doorbell. Edge-triggered, every ring of it is an event, so it need not be read.
            continue
        if <Plane*>conn is plane:
            plane.link_waits = 1
            continue
        happened = events[i].events
        if happened & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            conn.flags |= CONN_HUNG_UP
        if happened & EPOLLOUT and conn.flags & CONN_BLOCKED:
            conn.flags &= ~<uint32_t>CONN_BLOCKED
            out_commit(plane, conn, 0)
        if happened & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            conn_ready(plane, conn)


cdef void write_output(Plane* plane) noexcept nogil:
    """Write every connection with output once; afterwards nothing refers to the arena or to a ring."""
    cdef Conn* conn
    cdef uint32_t i
    while plane.dirty is not NULL:
        conn = plane.dirty
        plane.dirty = conn.next_dirty
        conn.flags &= ~<uint32_t>CONN_DIRTY
        if conn.flags & CONN_CLOSING:
            continue
        out_flush(plane, conn)
        if conn.flags & CONN_BORROWS:
            out_own(plane, conn)
        if conn.flags & CONN_BLOCKED:
            timer_blocked(plane, conn)
            if out_pending(conn) > plane.limits.max_pending:
                conn_close(plane, conn, CLOSE_SLOW_PENDING)
    for i in range(plane.retired_count):
        free(plane.retired[i])
    plane.retired_count = 0
    plane.arena_used = 0


cdef void release_rings(Plane* plane, uint64_t handled) noexcept nogil:
    """Give the space of handled frames back to the peers in `handled`."""
    cdef uint32_t i
    for i in range(plane.worker_count):
        if (handled >> i) & 1 and plane.peers[i].state != PEER_DOWN and ring_release(&plane.peers[i].data_in):
            peer_wake(plane, plane.peers[i])
    plane.ring_borrowed = 0


cdef uint64_t read_peers(Plane* plane) noexcept nogil:
    """Handle what other workers sent; return whose rings are to be released."""
    cdef uint32_t i
    cdef uint64_t handled = 0
    cdef Peer* peer
    for i in range(plane.worker_count):
        peer = plane.peers[i]
        if peer is not NULL and peer.state != PEER_DOWN:
            ring_poll(&peer.data_in)
    peers_take_control(plane)
    for i in range(plane.worker_count):
        peer = plane.peers[i]
        if peer is not NULL and peer.state != PEER_DOWN and deliver_from_peer(plane, peer, PEER_BYTES_MAX):
            handled |= <uint64_t>1 << i
    plane.backlogged = 0           # nobody to hold back: what is passed on is rare and small
    return handled


cdef void read_clients(Plane* plane) noexcept nogil:
    """Read one block of every ready socket."""
    cdef Conn* conn = plane.ready_head
    cdef Conn* following
    plane.ready_head = plane.ready_tail = NULL
    while conn is not NULL:
        following = conn.next_ready
        if conn.flags & (CONN_PAUSED | CONN_CLOSING):
            conn.flags &= ~<uint32_t>CONN_READY
        else:
            if ARENA_BYTES - plane.arena_used < ROUND_BYTES_MIN + plane.limits.max_control_line:
                peers_publish(plane)
                write_output(plane)
            conn_read(plane, conn)
        conn = following


cdef void resume_clients(Plane* plane) noexcept nogil:
    """Let clients go on whose reason to wait is over."""
    cdef Conn* conn
    cdef Conn* following
    if plane.waiting is not NULL and not peers_backlogged(plane):
        conn = plane.waiting
        plane.waiting = NULL
        while conn is not NULL:
            following = conn.next_waiting
            conn_resume(plane, conn)
            conn = following
    conn = plane.stalled
    plane.stalled = NULL
    while conn is not NULL:
        following = conn.next_stalled
        if conn.resume_ns <= plane.now_ns:
            conn_resume(plane, conn)
        else:
            conn.next_stalled = plane.stalled
            plane.stalled = conn
        conn = following


cdef void tell_closed(Plane* plane, Conn* conn) noexcept with gil:
    policy = <object>plane.policy
    try:
        policy.closed(conn.client_id, conn.close_reason, stats_of(plane, conn))
    except BaseException as error:  # noqa: BLE001 - the boundary of a connection
        policy.report(conn.client_id, error)


cdef void drop_closing(Plane* plane) noexcept nogil:
    """Take closing connections out of the ready, waiting and stalled lists."""
    cdef Conn** link = &plane.ready_head
    plane.ready_tail = NULL
    while link[0] is not NULL:
        if link[0].flags & CONN_CLOSING:
            link[0] = link[0].next_ready
        else:
            plane.ready_tail = link[0]
            link = &link[0].next_ready
    link = &plane.waiting
    while link[0] is not NULL:
        if link[0].flags & CONN_CLOSING:
            link[0] = link[0].next_waiting
        else:
            link = &link[0].next_waiting
    link = &plane.stalled
    while link[0] is not NULL:
        if link[0].flags & CONN_CLOSING:
            link[0] = link[0].next_stalled
        else:
            link = &link[0].next_stalled


cdef void reap(Plane* plane) noexcept nogil:
    """Free the connections that were closed in this round."""
    cdef Conn* conn
    if plane.closing is NULL:
        return
    drop_closing(plane)
    while plane.closing is not NULL:
        conn = plane.closing
        plane.closing = conn.next_closing
        tell_closed(plane, conn)
        out_discard(plane, conn)
        conn_free(plane, conn)
    plane.backlogged = 0
    peers_publish(plane)


cdef int play_round(Plane* plane, epoll_event* events, int count) noexcept nogil:
    """Do one round, which begins with `count` events; return 1 if there is more to do at once."""
    cdef uint64_t handled
    read_clock(plane)
    plane.counters.rounds += 1
    note_events(plane, events, count)
    if plane.waiting is not NULL or plane.stalled is not NULL:
        resume_clients(plane)
    handled = read_peers(plane) if plane.worker_count > 1 else 0
    plane.has_worked = count > 0 or handled > 0
    if handled and not plane.ring_borrowed:
        release_rings(plane, handled)
        handled = 0
    read_clients(plane)
    if plane.worker_count > 1:
        peers_publish(plane)
    write_output(plane)
    if handled:
        release_rings(plane, handled)
    reap(plane)
    plane.read_bytes = READ_BYTES_FEW if is_fanning_out(plane) else READ_BYTES
    return count == EVENTS_MAX or plane.ready_head is not NULL


cdef int linger(Plane* plane, epoll_event* events) noexcept nogil:
    """Wait a moment for the next events, at first without giving the processor away; return their number."""
    cdef int count
    cdef int64_t until_ns
    read_clock(plane)
    until_ns = plane.now_ns + plane.spin_ns
    while plane.now_ns < until_ns:
        sched_yield()
        count = epoll_wait(plane.epoll_fd, events, EVENTS_MAX, 0)
        if count:
            return count
        read_clock(plane)
    return epoll_wait(plane.epoll_fd, events, EVENTS_MAX, LINGER_MS)


cdef int is_fanning_out(Plane* plane) noexcept nogil:
    """Return whether this round delivered several times what it read, and note the counters for the next."""
    cdef uint64_t read = plane.counters.in_msgs + plane.counters.ring_in_frames - plane.round_in
    cdef uint64_t delivered = plane.counters.out_msgs - plane.round_out
    plane.round_in += read
    plane.round_out += delivered
    return delivered > FAN_OUT * read


cdef dict stats_of(Plane* plane, Conn* conn):
    return {
        "in_msgs": conn.in_msgs,
        "in_bytes": conn.in_bytes,
        "out_msgs": conn.out_msgs,
        "out_bytes": conn.out_bytes,
        "subscriptions": conn.sid_count,
        "pending_bytes": out_pending(conn),
        "rtt_ns": conn.rtt_ns,
        "age_ns": plane.now_ns - conn.started_ns,
        "idle_ns": plane.now_ns - conn.last_input_ns,
    }


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
        plane.accounts = <Account**>must_calloc(1, sizeof(Account*))
        plane.accounts[0] = account_new(0)
        plane.account_count = 1
        routes_init(plane)
        read_clock(plane)
        plane.wheel_ns = plane.now_ns
        plane.read_bytes = READ_BYTES
        for i in range(worker_count):
            if i != index:
                plane.peers[i] = peer_new(i, doorbells[i], region.wake_address(i),
                                          2 * plane.limits.max_payload + (1 << 20))
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
        account_free(plane.accounts[0])
        free(plane.accounts)
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

    # ---- running

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
        cdef epoll_event event
        memset(&event, 0, sizeof(event))
        event.events = EPOLLIN | <uint32_t>EPOLLET
        event.data.ptr = self.plane
        if epoll_ctl(self.plane.epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0:
            raise OSError("the link cannot be watched")
        self.plane.spin_ns = spin_ns
        self._lingers = True

    def run(self):
        """Do what there is to do; to be called when fileno() is readable and whenever soon or later say."""
        cdef epoll_event events[EVENTS_MAX]
        cdef int count, turn = 0, more = 1
        cdef Plane* plane = self.plane
        if self._is_running:
            return
        self._is_running = True
        plane.link_waits = 0
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
            return False
        peers_publish(plane)
        if plane.wake.control_pending or peers_have_input(plane) or peers_can_tell_more(plane) \
                or (plane.waiting is not NULL and not peers_backlogged(plane)):
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
