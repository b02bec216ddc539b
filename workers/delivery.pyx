# cython: language_level=3, embedsignature=True, wraparound=False
"""A published message to everybody who gets it: local subscriptions, queue members, other workers.

A delivery is two copies into the subscriber's output: the prefix from the route and the tail from the publisher's bytes
(see parser.pyx). Large tails are borrowed instead of copied while they stay where they were read.

For a queue group the publisher's worker picks one member of all, on all workers alike; if it is another worker's, that
worker picks the member among its own. Should its last member have left meanwhile, it picks again among the others.
"""
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy

from shm.fragment cimport (
    FRAGMENT_COMPLETE,
    FRAGMENT_INCOMPLETE,
    fragment_reader_finish,
    fragment_reader_push,
)
from shm.layout cimport FRAME_DATA, FRAME_HEADER_BYTES
from shm.ring cimport ring_frame_kind, ring_is_corrupt, ring_next

from workers.model cimport (
    CONN_BLOCKED,
    CONN_CLOSING,
    CONN_HEADERS,
    CONN_INTERNAL,
    CONN_NO_ECHO,
    CONN_STALL,
    SUB_SPENT,
    Conn,
    Delivery,
    Listener,
    Message,
    Peer,
    Plane,
    QueueChoice,
    Route,
    Sub,
)
from workers.letters cimport letter_add
from workers.octets cimport OCTETS_SLACK, copy_bytes, copy_exact, lowest_bit, must_realloc, same_bytes
from workers.output cimport out_borrow, out_commit, out_pending, out_reserve
from workers.peers cimport (
    FRAME_MESSAGE,
    FRAME_PLAIN,
    FRAME_SHOWN,
    FRAMES_VERSION,
    message_frame_t,
    peer_failed,
    peer_send_message,
)
from workers.routes cimport route_get, route_of
from workers.subscriptions cimport reap_spent, sub_spent


cdef enum:
    # Measured: with 1 KiB messages borrowing cost a third more than copying, with 4 KiB about as much; what it saves
    # of larger ones is the copy and its place in the cache.
    BORROW_BYTES_MIN = 16384
    HOPS_MAX = 4
    STRIPPED_LINE_MAX = 16         # "<size>\r\n" with room to spare


cdef inline uint32_t random_below(Plane* plane, uint32_t bound) noexcept nogil:
    """Return a number in 0..bound-1, uniformly enough (xorshift64*, multiply-shift)."""
    cdef uint64_t x = plane.random_state
    x ^= x >> 12
    x ^= x << 25
    x ^= x >> 27
    plane.random_state = x
    return <uint32_t>((((x * <uint64_t>2685821657736338717) >> 32) * bound) >> 32)


# ---- one subscription ------------------------------------------------------------------------------------------

cdef uint64_t write_stripped(Plane* plane, Delivery* delivery, const Message* message) noexcept nogil:
    """Write a message with headers to a client that cannot take them: a MSG of the payload alone."""
    cdef uint64_t payload = message.size - <uint32_t>message.header_size
    cdef uint64_t room = delivery.prefix_length + message.reply_length + STRIPPED_LINE_MAX + payload + 4
    cdef uint8_t* start = out_reserve(plane, delivery.conn, room)
    cdef uint8_t* at = start
    memcpy(at, delivery.prefix + 1, delivery.prefix_length - 1)
    at += delivery.prefix_length - 1
    if message.reply_length:
        memcpy(at, message.reply, message.reply_length)
        at += message.reply_length
        at[0] = c" "
        at += 1
    at += snprintf(<char*>at, STRIPPED_LINE_MAX, b"%llu\r\n", <unsigned long long>payload)
    memcpy(at, message.tail + message.tail_length - 2 - payload, payload + 2)
    at += payload + 2
    out_commit(plane, delivery.conn, <size_t>(at - start))
    return payload


cdef uint64_t write_shown_stripped(Plane* plane, Delivery* delivery, const Message* message) noexcept nogil:
    """Write a message with headers that is shown under another subject to a client that cannot take headers."""
    cdef Delivery shown = delivery[0]
    cdef uint32_t rest = <uint32_t>delivery.prefix_length - 5 - message.subject_length
    cdef uint64_t length = 5 + <uint64_t>message.shown_length + rest
    if length > plane.shown_capacity:
        plane.shown_capacity = 2 * length
        plane.shown_prefix = <uint8_t*>must_realloc(plane.shown_prefix, plane.shown_capacity + OCTETS_SLACK)
    memcpy(plane.shown_prefix, b"HMSG ", 5)
    memcpy(plane.shown_prefix + 5, message.shown, message.shown_length)
    memcpy(plane.shown_prefix + 5 + message.shown_length, delivery.prefix + 5 + message.subject_length, rest)
    shown.prefix = plane.shown_prefix
    shown.prefix_length = length
    return write_stripped(plane, &shown, message)


cdef inline uint8_t* put_prefix(uint8_t* at, Delivery* delivery, const Message* message) noexcept nogil:
    """Write `HMSG <subject> <sid> `, or MSG without headers; return its end."""
    cdef uint32_t skipped = 0 if message.header_size >= 0 else 1
    cdef uint32_t rest
    if message.shown_length == 0:
        copy_bytes(at, delivery.prefix + skipped, delivery.prefix_length - skipped)
        return at + delivery.prefix_length - skipped
    # The subject that it was routed by is left out; the one shown lies in memory without slack.
    memcpy(at, (<const uint8_t*>b"HMSG ") + skipped, 5)
    at += 5 - skipped
    copy_exact(at, message.shown, message.shown_length)
    at += message.shown_length
    rest = <uint32_t>delivery.prefix_length - 5 - message.subject_length
    copy_bytes(at, delivery.prefix + 5 + message.subject_length, rest)
    return at + rest


cdef inline uint64_t write_message(Plane* plane, Delivery* delivery, const Message* message) noexcept nogil:
    """Queue the message on the subscriber's output; return its size as counted (headers and payload)."""
    cdef uint64_t room = delivery.prefix_length + message.shown_length
    cdef Conn* conn = delivery.conn
    cdef uint8_t* start
    cdef uint8_t* at
    if message.header_size >= 0 and not conn.flags & CONN_HEADERS:
        if message.shown_length:
            return write_shown_stripped(plane, delivery, message)
        return write_stripped(plane, delivery, message)
    if message.tail_length >= BORROW_BYTES_MIN and message.may_borrow:
        start = out_reserve(plane, conn, room)
        out_commit(plane, conn, <size_t>(put_prefix(start, delivery, message) - start))
        out_borrow(plane, conn, message.tail, message.tail_length)
    else:
        start = out_reserve(plane, conn, room + message.tail_length)
        at = put_prefix(start, delivery, message)
        copy_bytes(at, message.tail, message.tail_length)
        out_commit(plane, conn, <size_t>(at - start) + message.tail_length)
    return message.size


cdef inline int deliver_one(Plane* plane, Delivery* delivery, const Message* message) noexcept nogil:
    """Deliver to one subscription; return 1, or 0 if its connection is going or does not want its own messages."""
    cdef Conn* conn = delivery.conn
    cdef Sub* sub = delivery.sub
    cdef uint64_t size
    if conn.flags & (CONN_CLOSING | CONN_BLOCKED | CONN_NO_ECHO | CONN_INTERNAL):
        if conn.flags & CONN_INTERNAL:
            return letter_add(plane, <Listener*>sub, message)
        if conn.flags & CONN_CLOSING or (conn is message.publisher and conn.flags & CONN_NO_ECHO):
            return 0
        if conn.flags & CONN_BLOCKED and out_pending(conn) > plane.limits.max_pending // 4 * 3:
            if message.publisher is not NULL:
                message.publisher.flags |= CONN_STALL
            else:
                plane.pressed = 1
    if sub.max_deliveries:
        if sub.flags & SUB_SPENT:
            return 0
        if sub.delivered + 1 >= sub.max_deliveries:
            sub_spent(plane, sub)
    size = write_message(plane, delivery, message)
    sub.delivered += 1
    conn.out_msgs += 1
    conn.out_bytes += size
    return 1


cdef inline void count_deliveries(Plane* plane, uint32_t count, const Message* message) noexcept nogil:
    """Add to the worker's counters, once for a message, since they lie in shared memory."""
    plane.counters.out_msgs += count
    plane.counters.out_bytes += <uint64_t>count * message.size


# ---- queues ----------------------------------------------------------------------------------------------------

cdef int deliver_to_member(Plane* plane, QueueChoice* choice, const Message* message, uint32_t first) noexcept nogil:
    """Deliver to this worker's member at `first`, or to the next one that can take it; return whether one did."""
    cdef uint32_t at = first
    for _ in range(choice.member_count):
        if deliver_one(plane, &choice.members[at], message):
            return 1
        at = at + 1 if at + 1 < choice.member_count else 0
    return 0


cdef int pick_remote(Plane* plane, QueueChoice* choice, uint32_t ticket) noexcept nogil:
    """Return the worker that holds the ticket-th of the other workers' members."""
    cdef uint32_t i
    for i in range(plane.worker_count):
        if ticket < choice.remote_members[i]:
            return <int>i
        ticket -= choice.remote_members[i]
    return -1


cdef int deliver_to_queue(Plane* plane, QueueChoice* choice, const Message* message) noexcept nogil:
    """Pick one member on all workers.

    Returns:
        -1 if it was this worker's and has the message, -2 if nobody can take it, else the worker to send it to.
    """
    cdef uint32_t total = choice.member_count + choice.remote_total
    cdef uint32_t ticket
    if total == 0:
        return -2
    ticket = random_below(plane, total)
    if ticket < choice.member_count:
        if deliver_to_member(plane, choice, message, ticket):
            return -1
        if choice.remote_total == 0:
            return -2
        ticket = choice.member_count + random_below(plane, choice.remote_total)
    return pick_remote(plane, choice, ticket - choice.member_count)


cdef void names_add(Plane* plane, QueueChoice* choice) noexcept nogil:
    cdef uint32_t need = plane.names_length + 4 + choice.name_length
    if need > plane.names_capacity:
        plane.names_capacity = 2 * need
        plane.names = <uint8_t*>must_realloc(plane.names, plane.names_capacity)
    memcpy(plane.names + plane.names_length, &choice.name_length, 4)
    memcpy(plane.names + plane.names_length + 4, choice.name, choice.name_length)
    plane.names_length = need


cdef uint32_t deliver_to_queues(Plane* plane, const Message* message, Route* route, uint64_t* remote) noexcept nogil:
    """Deliver to one member of each queue name; note the other workers' ones in Plane.picks and `remote`."""
    cdef uint32_t i, delivered = 0
    cdef int picked
    if route.queue_count > plane.picks_capacity:
        plane.picks_capacity = 2 * route.queue_count
        plane.picks = <uint32_t*>must_realloc(plane.picks, plane.picks_capacity * sizeof(uint32_t))
    for i in range(route.queue_count):
        picked = deliver_to_queue(plane, &route.queues[i], message)
        plane.picks[i] = plane.worker_count
        if picked >= 0:
            plane.picks[i] = <uint32_t>picked
            remote[0] |= <uint64_t>1 << picked
        if picked != -2:
            delivered += 1
        if picked == -1:
            count_deliveries(plane, 1, message)
    return delivered


# ---- all -------------------------------------------------------------------------------------------------------

cdef void send_to_workers(Plane* plane, const Message* message, Route* route, uint64_t workers) noexcept nogil:
    cdef uint32_t index, i
    while workers:
        index = <uint32_t>lowest_bit(workers)
        workers &= workers - 1
        plane.names_length = 0
        for i in range(route.queue_count):
            if plane.picks[i] == index:
                names_add(plane, &route.queues[i])
        peer_send_message(plane, plane.peers[index], message, <int>((route.remote_plain >> index) & 1), plane.names,
                          plane.names_length)


cdef uint32_t deliver(Plane* plane, const Message* message, Route* route) noexcept nogil:
    """Deliver a client's message to everybody on its route.

    Returns:
        How many took it, another worker's plain subscriptions counted as one; 0 means there is no responder. The route
        may be gone afterwards.
    """
    cdef uint32_t i, delivered = 0
    cdef uint64_t remote = route.remote_plain
    for i in range(route.plain_count):
        delivered += <uint32_t>deliver_one(plane, &route.plain[i], message)
    count_deliveries(plane, delivered, message)
    if route.queue_count:
        delivered += deliver_to_queues(plane, message, route, &remote)
    if remote:
        if route.remote_plain:
            delivered += 1
        send_to_workers(plane, message, route, remote)
    if plane.spent_count:
        reap_spent(plane)
    return delivered


cdef uint8_t* deliver_begin(Plane* plane, const Message* message, Route* route, uint64_t room) noexcept nogil:
    """Return where at most `room` bytes of the tail go when one subscription of this worker alone gets the message.

    deliver_end must follow. NULL: it takes `deliver`, with a message that has its tail.
    """
    cdef Delivery* delivery = route.plain
    if route.plain_count != 1 or route.queue_count or route.remote_plain or delivery.sub.max_deliveries \
            or delivery.conn.flags & (CONN_CLOSING | CONN_BLOCKED | CONN_NO_ECHO | CONN_INTERNAL) \
            or (message.header_size >= 0 and not delivery.conn.flags & CONN_HEADERS):
        return NULL
    room += delivery.prefix_length + message.shown_length
    return put_prefix(out_reserve(plane, delivery.conn, room), delivery, message)


cdef void deliver_end(Plane* plane, const Message* message, Route* route, uint8_t* end) noexcept nogil:
    """Count the message that deliver_begin began, and that ends here, as delivered."""
    cdef Conn* conn = route.plain.conn
    out_commit(plane, conn, <size_t>(end - conn.cursor))
    route.plain.sub.delivered += 1
    conn.out_msgs += 1
    conn.out_bytes += message.size
    count_deliveries(plane, 1, message)


cdef void deliver_no_responders(Plane* plane, const Message* message) noexcept nogil:
    """Tell the publisher that nobody got its request, on its own plain subscription to the reply subject, if any."""
    cdef Route* route = route_get(plane, message.account, message.reply, message.reply_length)
    cdef Conn* conn = message.publisher
    cdef Delivery* delivery
    cdef uint32_t i, header_size = message.subject_length + 32
    cdef uint64_t room
    cdef uint8_t* start
    cdef uint8_t* at
    for i in range(route.plain_count):
        delivery = &route.plain[i]
        if delivery.conn is not conn or delivery.sub.flags & SUB_SPENT:
            continue
        room = delivery.prefix_length + header_size + 2 * STRIPPED_LINE_MAX + 4
        start = at = out_reserve(plane, conn, room)
        memcpy(at, delivery.prefix, delivery.prefix_length)
        at += delivery.prefix_length
        at += snprintf(<char*>at, 2 * STRIPPED_LINE_MAX, b"%u %u\r\n", header_size, header_size)
        memcpy(at, b"NATS/1.0 503\r\nNats-Subject: ", 28)
        at += 28
        memcpy(at, message.subject, message.subject_length)
        at += message.subject_length
        memcpy(at, b"\r\n\r\n\r\n", 6)
        at += 6
        out_commit(plane, conn, <size_t>(at - start))
        delivery.sub.delivered += 1
        conn.out_msgs += 1
        if delivery.sub.max_deliveries and delivery.sub.delivered >= delivery.sub.max_deliveries:
            sub_spent(plane, delivery.sub)
        break
    if plane.spent_count:
        reap_spent(plane)


# ---- from other workers ----------------------------------------------------------------------------------------

cdef QueueChoice* choice_named(Route* route, const uint8_t* name, uint32_t length) noexcept nogil:
    cdef uint32_t i
    for i in range(route.queue_count):
        if route.queues[i].name_length == length and memcmp(route.queues[i].name, name, length) == 0:
            return &route.queues[i]
    return NULL


cdef void deliver_named(Plane* plane, Message* message, Route* route, const uint8_t* name,
                        uint32_t length) noexcept nogil:
    """Deliver to one of this worker's members of a queue, or pass the message on if they have all left."""
    cdef QueueChoice* choice = choice_named(route, name, length)
    cdef int picked
    if choice is NULL:
        return
    if choice.member_count and deliver_to_member(plane, choice, message, random_below(plane, choice.member_count)):
        count_deliveries(plane, 1, message)
        return
    if choice.remote_total == 0 or message.hops >= HOPS_MAX:
        return
    picked = pick_remote(plane, choice, random_below(plane, choice.remote_total))
    plane.names_length = 0
    names_add(plane, choice)
    message.hops += 1
    peer_send_message(plane, plane.peers[picked], message, 0, plane.names, plane.names_length)


cdef int frame_is_sound(Plane* plane, const message_frame_t* frame, uint64_t length) noexcept nogil:
    cdef uint64_t need = sizeof(message_frame_t)
    if length < need or frame.kind != FRAME_MESSAGE or frame.version != FRAMES_VERSION:
        return 0
    need += <uint64_t>frame.queues_length + frame.subject_length + frame.tail_length
    return (need == length and frame.account < plane.account_count and frame.subject_length > 0
            and <uint64_t>frame.size + 2 <= frame.tail_length and frame.reply_length < frame.tail_length
            and frame.header_size <= <int32_t>frame.size)


cdef int deliver_frame(Plane* plane, Peer* peer, const uint8_t* body, uint64_t length, int may_borrow) noexcept nogil:
    """Deliver one message frame; return 0 if it makes no sense."""
    cdef const message_frame_t* frame = <const message_frame_t*>body
    cdef const uint8_t* names = body + sizeof(message_frame_t)
    cdef const uint8_t* names_end
    cdef Message message
    cdef Route* route
    cdef uint32_t i, name_length, delivered = 0
    if not frame_is_sound(plane, frame, length):
        return 0
    names_end = names + frame.queues_length
    message.subject = <uint8_t*>names_end
    message.subject_length = frame.subject_length
    message.tail = message.subject + frame.subject_length
    message.tail_length = frame.tail_length
    message.reply = message.tail
    message.reply_length = frame.reply_length
    message.header_size = frame.header_size
    message.size = frame.size
    message.account = frame.account
    message.hops = frame.hops
    message.publisher = NULL
    message.from_peer = 1
    message.shown_length = 0
    if frame.flags & FRAME_SHOWN:
        if names_end - names < 4:
            return 0
        memcpy(&message.shown_length, names, 4)
        if message.shown_length > <uint64_t>(names_end - names) - 4:
            return 0
        message.shown = <uint8_t*>names + 4
        names += 4 + message.shown_length
    message.may_borrow = may_borrow
    route = peer.memo
    if not (peer.memo_epoch == plane.route_epoch and route.subject_length == message.subject_length
            and route.account == message.account
            and same_bytes(route.subject, message.subject, message.subject_length)):
        route = route_of(plane, message.account, message.subject, message.subject_length)
        peer.memo = route
        peer.memo_epoch = plane.route_epoch
    if frame.flags & FRAME_PLAIN:
        for i in range(route.plain_count):
            delivered += <uint32_t>deliver_one(plane, &route.plain[i], &message)
        count_deliveries(plane, delivered, &message)
    while names_end - names > 4:
        memcpy(&name_length, names, 4)
        if name_length > <uint64_t>(names_end - names) - 4:
            return 0
        deliver_named(plane, &message, route, names + 4, name_length)
        names += 4 + name_length
    if plane.spent_count:
        reap_spent(plane)
    if may_borrow and frame.tail_length >= BORROW_BYTES_MIN:
        plane.ring_borrowed = 1
    return 1


cdef int deliver_from_peer(Plane* plane, Peer* peer, uint64_t bytes_max) noexcept nogil:
    """Deliver what the peer's data ring holds up to its last ring_poll, about `bytes_max` bytes of it.

    Returns:
        1 if frames were handled and ring_release is due, else 0.
    """
    cdef const uint8_t* body
    cdef uint32_t length
    cdef uint64_t handled = 0
    cdef int result, sound
    while handled < bytes_max:
        body = ring_next(&peer.data_in, &length)
        if body is NULL:
            break
        handled += length + FRAME_HEADER_BYTES
        sound = 1
        if ring_frame_kind(body) == FRAME_DATA:
            sound = deliver_frame(plane, peer, body, length, 1)
            plane.counters.ring_in_frames += 1
        else:
            result = fragment_reader_push(&peer.data_reader, body, length)
            if result == FRAGMENT_COMPLETE:
                sound = deliver_frame(plane, peer, peer.data_reader.body, peer.data_reader.length, 0)
                fragment_reader_finish(&peer.data_reader)
                plane.counters.ring_in_frames += 1
            elif result != FRAGMENT_INCOMPLETE:
                sound = 0
        if not sound:
            peer_failed(plane, peer)
            return 0
    if ring_is_corrupt(&peer.data_in):
        peer_failed(plane, peer)
        return 0
    return handled > 0
