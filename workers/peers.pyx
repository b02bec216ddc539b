# cython: language_level=3, embedsignature=True, wraparound=False
"""The other workers: frames to and from them, what waits when a ring is full, and keeping each other's interest.

Sending never blocks. A frame that finds its ring full waits in the peer's backlog, in order, and Plane.backlogged tells
the caller to hold the client back whose operation made it; so a backlog is bounded by what one operation can produce.

The causality rule: interest frames are published before the output that could tell a client about them is written, and
peers_take_control runs before any input that could depend on them is handled. For that one word of shared memory is
looked at (wake_words_t.control_pending, set by control_announce after the frames are visible).

A worker that starts, first or again, is told all interest of every other worker: peer_attach starts a cursor over the
subjects with local interest (newest first, so that what comes meanwhile is told on its own), peers_publish moves it on
as there is room, and a SYNCED frame ends it. Interest frames carry absolute counts, so telling one twice is harmless.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, free
from libc.string cimport memcpy, memset

from shm.fragment cimport (
    fragment_reader_init,
    fragment_reader_reset,
    fragment_writer_is_active,
    fragment_writer_push,
    fragment_writer_reset,
    fragment_writer_start,
)
from shm.layout cimport wake_words_t
from shm.ring cimport (
    ring_claim,
    ring_commit,
    ring_consumer_attach,
    ring_consumer_detach,
    ring_frame_max,
    ring_is_corrupt,
    ring_next,
    ring_poll,
    ring_producer_attach,
    ring_producer_detach,
    ring_producer_t,
    ring_publish,
    ring_release,
    ring_want_space,
)
from shm.wake cimport control_announce, control_take, wake_needed

from workers.model cimport (
    PEER_DOWN,
    PEER_SYNCING,
    PEER_UP,
    Account,
    Backlog,
    Frame,
    Interest,
    Message,
    Peer,
    Plane,
    QueueGroup,
    TrieNode,
)
from workers.octets cimport copy_exact, must_calloc, must_malloc
from workers.routes cimport routes_changed
from workers.sublist cimport (
    interest_find,
    interest_obtain,
    interest_release,
    interest_special,
    interest_told,
    matched_add,
    queue_obtain,
    queue_release,
)


cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd_write(int fd, uint64_t value)


cdef enum:
    SYNC_BATCH = 4096              # subjects told to a new peer in one round
    SYNC_BACKLOG_BYTES = 1 << 22   # waiting for a starting peer before clients are held back
    PARKED_BYTES_MAX = 1 << 23     # messages kept for a dead peer before clients are held back


# ---- life ------------------------------------------------------------------------------------------------------

cdef Peer* peer_new(uint32_t index, int doorbell, uint64_t wake_address, uint64_t length_max) noexcept nogil:
    """Make a peer that is not attached yet; `length_max` bounds a message frame that comes in fragments."""
    cdef Peer* peer = <Peer*>must_calloc(1, sizeof(Peer))
    peer.index = index
    peer.doorbell = doorbell
    peer.wake = <wake_words_t*>wake_address
    peer.state = PEER_DOWN
    fragment_reader_init(&peer.data_reader, length_max)
    return peer


cdef int peer_attach(Plane* plane, Peer* peer, uint64_t data_out, uint64_t control_out, uint32_t epoch_out,
                     uint64_t data_in, uint64_t control_in, uint32_t epoch_in) noexcept nogil:
    """Join the rings to and from the peer and begin to tell it our interest.

    Returns:
        0, or -1 if a ring is of another epoch than given.
    """
    if not (ring_producer_attach(&peer.data_out, <void*>data_out, epoch_out)
            and ring_producer_attach(&peer.control_out, <void*>control_out, epoch_out)
            and ring_consumer_attach(&peer.data_in, <void*>data_in, epoch_in)
            and ring_consumer_attach(&peer.control_in, <void*>control_in, epoch_in)):
        return -1
    peer.state = PEER_SYNCING
    peer.sync_sent = 0
    peer.sync_received = 0
    peer.sync_account = 0
    peer.sync_cursor = plane.accounts[0].local_head
    # What it has already told may have been announced while we were not attached.
    control_announce(plane.wake)
    return 0


cdef void backlog_clear(Backlog* backlog) noexcept nogil:
    cdef Frame* frame
    while backlog.head is not NULL:
        frame = backlog.head
        backlog.head = frame.next
        free(frame)
    backlog.tail = NULL
    backlog.bytes = 0


cdef void peer_detach(Plane* plane, Peer* peer) noexcept nogil:
    """Leave the rings of a dead peer and forget its interest and what waits for it."""
    ring_producer_detach(&peer.data_out)
    ring_producer_detach(&peer.control_out)
    ring_consumer_detach(&peer.data_in)
    ring_consumer_detach(&peer.control_in)
    fragment_writer_reset(&peer.data_writer)
    fragment_reader_reset(&peer.data_reader)
    backlog_clear(&peer.data_backlog)
    backlog_clear(&peer.control_backlog)
    peer.state = PEER_DOWN
    peer.sync_cursor = NULL
    peer.dirty = peer.control_dirty = 0
    peer.sweeps = 1
    forget_interest_of(plane, peer.index, 0)


cdef void peer_free(Plane* plane, Peer* peer) noexcept nogil:
    peer_detach(plane, peer)
    free(peer)


cdef void peer_failed(Plane* plane, Peer* peer) noexcept nogil:
    """End this process, because a ring makes no sense.

    Somebody has written where he must not, and nothing says that it was the peer. The supervisor gives a new worker new
    rings to all others, which heals either case; to go on without the peer would lose messages in silence.
    """
    fprintf(stderr, b"midge: worker %u cannot make sense of what worker %u wrote into its ring\n", plane.index,
            peer.index)
    abort()


# ---- sending ---------------------------------------------------------------------------------------------------

cdef Frame* frame_new(Backlog* backlog, uint32_t length) noexcept nogil:
    cdef Frame* frame = <Frame*>must_malloc(sizeof(Frame) + length)
    frame.next = NULL
    frame.length = length
    if backlog.tail is NULL:
        backlog.head = frame
    else:
        backlog.tail.next = frame
    backlog.tail = frame
    backlog.bytes += length
    return frame


cdef void backlog_pop(Backlog* backlog) noexcept nogil:
    cdef Frame* frame = backlog.head
    backlog.head = frame.next
    if backlog.head is NULL:
        backlog.tail = NULL
    backlog.bytes -= frame.length
    free(frame)


cdef int backlog_push(Plane* plane, Peer* peer, Backlog* backlog, ring_producer_t* ring) noexcept nogil:
    """Move waiting frames into the ring; return 1 if none is left, else ask to be woken when there is room."""
    cdef Frame* frame
    cdef uint8_t* body
    cdef int asked = 0
    while backlog.head is not NULL:
        frame = backlog.head
        if frame.length > ring_frame_max(ring):
            if not fragment_writer_is_active(&peer.data_writer):
                fragment_writer_start(&peer.data_writer, frame.body, frame.length)
            if fragment_writer_push(&peer.data_writer, ring):
                backlog_pop(backlog)
                continue
        else:
            body = ring_claim(ring, frame.length)
            if body is not NULL:
                memcpy(body, frame.body, frame.length)
                ring_commit(ring)
                backlog_pop(backlog)
                continue
        if asked:
            return 0
        asked = 1
        # What is committed must be visible, or the peer could never make room; and control before data, see
        # peers_publish.
        if backlog is &peer.control_backlog:
            ring_publish(ring)
            control_announce(peer.wake)
        else:
            wake_peers(plane, publish_control(plane))
            ring_publish(ring)
        peer_wake(plane, peer)
        ring_want_space(ring)
    return 1


cdef void peer_wake(Plane* plane, Peer* peer) noexcept nogil:
    """Ring the peer's doorbell if it sleeps."""
    if wake_needed(peer.wake):
        plane.counters.wakeups += 1
        eventfd_write(peer.doorbell, 1)


cdef void wake_peers(Plane* plane, uint64_t peers) noexcept nogil:
    cdef uint32_t i
    for i in range(plane.worker_count):
        if (peers >> i) & 1:
            peer_wake(plane, plane.peers[i])


cdef inline uint32_t shown_size(const Message* message) noexcept nogil:
    return 4 + message.shown_length if message.shown_length else 0


cdef inline void write_message(uint8_t* body, const Message* message, int plain, const uint8_t* names,
                               uint32_t names_length) noexcept nogil:
    cdef message_frame_t* frame = <message_frame_t*>body
    frame.kind = FRAME_MESSAGE
    frame.version = FRAMES_VERSION
    frame.flags = (FRAME_PLAIN if plain else 0) | (FRAME_SHOWN if message.shown_length else 0)
    frame.hops = <uint8_t>message.hops
    frame.account = message.account
    frame.subject_length = message.subject_length
    frame.reply_length = message.reply_length
    frame.header_size = message.header_size
    frame.size = message.size
    frame.queues_length = names_length + shown_size(message)
    frame.tail_length = message.tail_length
    body += sizeof(message_frame_t)
    if message.shown_length:
        memcpy(body, &message.shown_length, 4)
        memcpy(body + 4, message.shown, message.shown_length)
        body += 4 + message.shown_length
    if names_length:
        memcpy(body, names, names_length)
        body += names_length
    copy_exact(body, message.subject, message.subject_length)
    copy_exact(body + message.subject_length, message.tail, message.tail_length)


cdef void peer_send_message(Plane* plane, Peer* peer, const Message* message, int plain, const uint8_t* names,
                            uint32_t names_length) noexcept nogil:
    """Send a message to a peer: for its plain subscriptions if `plain`, and for one member of each named queue.

    Args:
        names: queue names, each a u32 length and its bytes.
    """
    cdef uint64_t length = (sizeof(message_frame_t) + shown_size(message) + names_length + message.subject_length
                            + message.tail_length)
    cdef uint8_t* body = NULL
    if peer.state == PEER_DOWN:
        # Only sticky interest is left of it: the message waits until it is back.
        write_message(frame_new(&peer.data_backlog, <uint32_t>length).body, message, plain, names, names_length)
        if peer.data_backlog.bytes > PARKED_BYTES_MAX:
            plane.backlogged = 1
        return
    if peer.data_backlog.head is NULL:
        body = ring_claim(&peer.data_out, <uint32_t>length)
    if body is not NULL:
        write_message(body, message, plain, names, names_length)
        ring_commit(&peer.data_out)
    else:
        write_message(frame_new(&peer.data_backlog, <uint32_t>length).body, message, plain, names, names_length)
        if not backlog_push(plane, peer, &peer.data_backlog, &peer.data_out):
            plane.counters.ring_full += 1
            plane.backlogged = 1
    plane.counters.ring_out_frames += 1
    peer.dirty = 1


cdef void send_control(Plane* plane, Peer* peer, uint8_t kind, Interest* interest, QueueGroup* queue,
                       uint32_t count) noexcept nogil:
    cdef uint32_t subject_length = interest.subject_length if interest is not NULL else 0
    cdef uint32_t queue_length = queue.name_length if queue is not NULL else 0
    cdef uint32_t length = <uint32_t>sizeof(interest_frame_t) + subject_length + queue_length
    cdef uint8_t* body = NULL
    cdef interest_frame_t* frame
    cdef Frame* waiting = NULL
    if peer.control_backlog.head is NULL:
        body = ring_claim(&peer.control_out, length)
    if body is NULL:
        waiting = frame_new(&peer.control_backlog, length)
        body = waiting.body
    frame = <interest_frame_t*>body
    memset(frame, 0, sizeof(interest_frame_t))
    frame.kind = kind
    frame.version = FRAMES_VERSION
    frame.subject_length = subject_length
    frame.queue_length = queue_length
    frame.count = count
    if interest is not NULL:
        frame.account = interest.account
        if interest.special is not NULL and interest.special.sticky:
            frame.flags = INTEREST_STICKY
        memcpy(body + sizeof(interest_frame_t), interest.subject, subject_length)
    if queue is not NULL:
        memcpy(body + sizeof(interest_frame_t) + subject_length, queue.name, queue_length)
    if waiting is NULL:
        ring_commit(&peer.control_out)
    elif not backlog_push(plane, peer, &peer.control_backlog, &peer.control_out):
        if peer.sync_sent or peer.control_backlog.bytes > SYNC_BACKLOG_BYTES:
            plane.backlogged = 1
    plane.counters.control_out_frames += 1
    peer.control_dirty = 1


cdef void peers_tell(Plane* plane, Interest* interest, QueueGroup* queue) noexcept nogil:
    """Tell every peer how many plain subscriptions (queue NULL) or members of the queue this worker has now."""
    cdef uint32_t i
    cdef uint32_t count = queue.member_count if queue is not NULL else interest_told(interest)
    for i in range(plane.worker_count):
        if plane.peers[i] is not NULL and plane.peers[i].state != PEER_DOWN:
            send_control(plane, plane.peers[i], FRAME_INTEREST, interest, queue, count)


cdef void sync_step(Plane* plane, Peer* peer) noexcept nogil:
    """Tell a starting peer some more of our interest, and at the end that this is all."""
    cdef uint32_t budget = SYNC_BATCH
    cdef Interest* interest
    cdef QueueGroup* queue
    while not peer.sync_sent and peer.control_backlog.head is NULL and budget:
        budget -= 1
        interest = peer.sync_cursor
        if interest is not NULL:
            peer.sync_cursor = interest.local_next
            if interest_told(interest):
                send_control(plane, peer, FRAME_INTEREST, interest, NULL, interest_told(interest))
            queue = interest.queues
            while queue is not NULL:
                if queue.member_count:
                    send_control(plane, peer, FRAME_INTEREST, interest, queue, queue.member_count)
                queue = queue.next
            continue
        peer.sync_account += 1
        if peer.sync_account < plane.account_count:
            peer.sync_cursor = plane.accounts[peer.sync_account].local_head
            continue
        peer.sync_sent = 1
        send_control(plane, peer, FRAME_SYNCED, NULL, NULL, 0)
        if peer.sync_received:
            peer.state = PEER_UP


cdef uint64_t publish_control(Plane* plane) noexcept nogil:
    """Make all control frames visible to all peers; return which peers have news by it."""
    cdef uint32_t i
    cdef uint64_t news = 0
    cdef Peer* peer
    for i in range(plane.worker_count):
        peer = plane.peers[i]
        if peer is NULL or peer.state == PEER_DOWN:
            continue
        if not peer.sync_sent:
            sync_step(plane, peer)
        if peer.control_backlog.head is not NULL:
            backlog_push(plane, peer, &peer.control_backlog, &peer.control_out)
            peer.control_dirty = 1
        if peer.control_dirty:
            peer.control_dirty = 0
            if ring_publish(&peer.control_out):
                control_announce(peer.wake)
                news |= <uint64_t>1 << i
    return news


cdef void peers_publish(Plane* plane) noexcept nogil:
    """Make everything sent visible to the peers and wake those that sleep.

    Control goes to all peers before data goes to any: what one peer does upon the data, and tells a third, may
    depend on interest that the third must know by then.
    """
    cdef uint32_t i
    cdef uint64_t news = publish_control(plane)
    cdef Peer* peer
    for i in range(plane.worker_count):
        peer = plane.peers[i]
        if peer is NULL or peer.state == PEER_DOWN:
            continue
        if peer.data_backlog.head is not NULL:
            backlog_push(plane, peer, &peer.data_backlog, &peer.data_out)
            peer.dirty = 1
        if peer.dirty:
            peer.dirty = 0
            if ring_publish(&peer.data_out):
                news |= <uint64_t>1 << i
        if (news >> i) & 1:
            peer_wake(plane, peer)


cdef int peers_backlogged(Plane* plane) noexcept nogil:
    """Return whether a frame still waits for room on its way to a peer that clients depend on."""
    cdef uint32_t i
    cdef Peer* peer
    for i in range(plane.worker_count):
        peer = plane.peers[i]
        if peer is NULL:
            continue
        if peer.state == PEER_DOWN:
            if peer.data_backlog.bytes > PARKED_BYTES_MAX:
                return 1
            continue
        if peer.data_backlog.head is not NULL:
            return 1
        if peer.control_backlog.head is not NULL and (peer.sync_sent
                                                      or peer.control_backlog.bytes > SYNC_BACKLOG_BYTES):
            return 1
    return 0


cdef int clients_must_wait(Plane* plane) noexcept nogil:
    """Return whether clients that were held back must go on waiting."""
    return plane.store_full or peers_backlogged(plane)


cdef int peers_can_tell_more(Plane* plane) noexcept nogil:
    """Return whether a starting peer is still to be told interest that its ring has room for."""
    cdef uint32_t i
    cdef Peer* peer
    for i in range(plane.worker_count):
        peer = plane.peers[i]
        if peer is not NULL and peer.state != PEER_DOWN and not peer.sync_sent and peer.control_backlog.head is NULL:
            return 1
    return 0


# ---- receiving -------------------------------------------------------------------------------------------------

cdef int peers_have_input(Plane* plane) noexcept nogil:
    """Return whether any peer's ring holds something; read before going to sleep."""
    cdef uint32_t i
    cdef Peer* peer
    for i in range(plane.worker_count):
        peer = plane.peers[i]
        if peer is NULL or peer.state == PEER_DOWN:
            continue
        if ring_poll(&peer.control_in) or (not plane.is_joining and ring_poll(&peer.data_in)):
            return 1
    return 0


cdef void apply_interest(Plane* plane, Peer* peer, const uint8_t* body) noexcept nogil:
    """Take over what the peer says of its plain subscriptions or queue members on one subject."""
    cdef const interest_frame_t* frame = <const interest_frame_t*>body
    cdef const uint8_t* subject = body + sizeof(interest_frame_t)
    cdef const uint8_t* name = subject + frame.subject_length
    cdef Account* account = plane.accounts[frame.account]
    cdef Interest* interest
    cdef QueueGroup* queue
    if frame.count:
        interest = interest_obtain(plane, account, subject, frame.subject_length)
    else:
        interest = interest_find(plane, account, subject, frame.subject_length)
        if interest is NULL:
            return
    routes_changed(plane, account, interest)
    if frame.queue_length:
        queue = queue_obtain(interest, name, frame.queue_length)
        if queue.remote_members is NULL:
            queue.remote_members = <uint32_t*>must_calloc(plane.worker_count, sizeof(uint32_t))
        queue.remote_members[peer.index] = frame.count
        queue_release(plane, interest, queue)
    else:
        set_remote(interest, <uint64_t>1 << peer.index, frame.count > 0, frame.flags & INTEREST_STICKY)
    interest_release(plane, account, interest)


cdef void set_remote(Interest* interest, uint64_t peer, int is_interested, int is_sticky) noexcept nogil:
    interest.remote_plain &= ~peer
    if is_interested:
        interest.remote_plain |= peer
    if interest.special is not NULL:
        interest.special.parked &= ~peer
        interest.special.remote_sticky &= ~peer
    if is_interested and is_sticky:
        interest_special(interest).remote_sticky |= peer


cdef int control_frame_is_sound(Plane* plane, const uint8_t* body, uint32_t length) noexcept nogil:
    cdef const interest_frame_t* frame = <const interest_frame_t*>body
    if length < sizeof(interest_frame_t) or frame.version != FRAMES_VERSION:
        return 0
    if frame.kind == FRAME_SYNCED:
        return 1
    return (frame.kind == FRAME_INTEREST and frame.account < plane.account_count and frame.subject_length > 0
            and length == sizeof(interest_frame_t) + <uint64_t>frame.subject_length + frame.queue_length)


cdef void take_control_of(Plane* plane, Peer* peer) noexcept nogil:
    cdef const uint8_t* body
    cdef uint32_t length
    ring_poll(&peer.control_in)
    while True:
        body = ring_next(&peer.control_in, &length)
        if body is NULL:
            break
        if not control_frame_is_sound(plane, body, length):
            peer_failed(plane, peer)
            return
        plane.counters.control_in_frames += 1
        if (<const interest_frame_t*>body).kind == FRAME_SYNCED:
            peer.sync_received = 1
            if peer.sync_sent:
                peer.state = PEER_UP
            if peer.sweeps:
                peer.sweeps = 0
                forget_interest_of(plane, peer.index, 1)
        else:
            apply_interest(plane, peer, body)
    if ring_is_corrupt(&peer.control_in):
        peer_failed(plane, peer)
    elif ring_release(&peer.control_in):
        peer_wake(plane, peer)


cdef void peers_take_control(Plane* plane) noexcept nogil:
    """Apply all control frames that are visible; costs one load when there is none."""
    cdef uint32_t i
    cdef Peer* peer
    if not plane.wake.control_pending or not control_take(plane.wake):
        return
    for i in range(plane.worker_count):
        peer = plane.peers[i]
        if peer is not NULL and peer.state != PEER_DOWN:
            take_control_of(plane, peer)


# ---- forgetting ------------------------------------------------------------------------------------------------

cdef void collect(Plane* plane, Interest* interest, uint32_t index) noexcept nogil:
    """Add the interest to Plane.matched if that worker is in it."""
    cdef QueueGroup* queue
    cdef int found = 0
    if interest is NULL:
        return
    found = (interest.remote_plain >> index) & 1
    queue = interest.queues
    while queue is not NULL and not found:
        found = queue.remote_members is not NULL and queue.remote_members[index]
        queue = queue.next
    if found:
        matched_add(plane, interest)


cdef void collect_below(Plane* plane, TrieNode* node, uint32_t index) noexcept nogil:
    cdef uint32_t i
    if node is NULL:
        return
    collect(plane, node.ends, index)
    collect(plane, node.ends_star, index)
    collect(plane, node.ends_full, index)
    collect_below(plane, node.star, index)
    for i in range(node.child_capacity):
        collect_below(plane, node.children[i], index)


cdef int is_kept(const Interest* interest, uint64_t peer, int parked) noexcept nogil:
    if interest.special is NULL:
        return parked
    return not interest.special.parked & peer if parked else interest.special.remote_sticky & peer != 0


cdef void forget_interest_of(Plane* plane, uint32_t index, int parked) noexcept nogil:
    """Drop what another worker was interested in.

    Args:
        parked: 0: it has died; what is sticky is parked instead. 1: it is back and has told everything; what is still
            parked is gone for good.
    """
    cdef uint32_t a, i
    cdef uint64_t slot
    cdef uint64_t peer = <uint64_t>1 << index
    cdef Account* account
    cdef Interest* interest
    cdef QueueGroup* queue
    cdef QueueGroup* following
    for a in range(plane.account_count):
        account = plane.accounts[a]
        plane.matched_count = 0
        for slot in range(account.literal_capacity):
            collect(plane, account.literals[slot], index)
        collect_below(plane, account.wildcards, index)
        for i in range(plane.matched_count):
            interest = plane.matched[i]
            routes_changed(plane, account, interest)
            if not is_kept(interest, peer, parked):
                set_remote(interest, peer, 0, 0)
            elif not parked:
                interest.special.parked |= peer
            queue = interest.queues
            while queue is not NULL and not parked:
                following = queue.next
                if queue.remote_members is not NULL:
                    queue.remote_members[index] = 0
                    queue_release(plane, interest, queue)
                queue = following
            interest_release(plane, account, interest)
    plane.matched_count = 0
