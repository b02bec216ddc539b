# cython: language_level=3, embedsignature=True, wraparound=False
"""A client's subscriptions: by sid, in the interest of their subject, and known to the peers.

A connection finds its subscriptions by sid in a hash table of pointers that is made with the first one. All changes of
interest of this worker's clients go through here, so this is where routes are told and where peers are told: plain
interest when the first subscription on a subject comes or the last one goes, a queue's members at every change.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

from workers.model cimport SUB_LOCAL, SUB_SPENT, SUB_STICKY, Account, Conn, Interest, Listener, Plane, QueueGroup, Sub
from workers.octets cimport hash_bytes, must_calloc, must_realloc
from workers.peers cimport peers_tell
from workers.routes cimport routes_changed
from workers.sublist cimport (
    interest_add,
    interest_has_local,
    interest_list_local,
    interest_obtain,
    interest_release,
    interest_remove,
    interest_special,
    interest_told,
    interest_unlist_local,
    queue_obtain,
    queue_release,
)


cdef enum:
    SIDS_FIRST = 8                 # slots of a connection's first table


cdef uint32_t sid_slot(Plane* plane, Conn* conn, const uint8_t* sid, uint32_t length) noexcept nogil:
    """Return the slot of the sid, or the empty one where it belongs."""
    cdef uint32_t mask = conn.sid_capacity - 1
    cdef uint32_t slot = <uint32_t>hash_bytes(sid, length, plane.seed) & mask
    while conn.sids[slot] is not NULL and (conn.sids[slot].sid_length != length
                                           or memcmp(conn.sids[slot].sid, sid, length) != 0):
        slot = (slot + 1) & mask
    return slot


cdef Sub* sub_find(Plane* plane, Conn* conn, const uint8_t* sid, uint32_t length) noexcept nogil:
    """Return the connection's subscription of that sid, or NULL."""
    cdef Sub* sub
    if conn.sid_capacity == 0:
        return NULL
    sub = conn.sids[sid_slot(plane, conn, sid, length)]
    return NULL if sub is NULL or sub.flags & SUB_SPENT else sub


cdef void sids_grow(Plane* plane, Conn* conn) noexcept nogil:
    cdef Sub** old = conn.sids
    cdef uint32_t old_capacity = conn.sid_capacity
    cdef uint32_t i
    conn.sid_capacity = 2 * old_capacity if old_capacity else SIDS_FIRST
    conn.sids = <Sub**>must_calloc(conn.sid_capacity, sizeof(Sub*))
    for i in range(old_capacity):
        if old[i] is not NULL:
            conn.sids[sid_slot(plane, conn, old[i].sid, old[i].sid_length)] = old[i]
    free(old)


cdef void sid_erase(Plane* plane, Conn* conn, Sub* sub) noexcept nogil:
    """Empty the subscription's slot and move the entries behind it up, so that no probe ends early."""
    cdef uint32_t mask = conn.sid_capacity - 1
    cdef uint32_t slot = sid_slot(plane, conn, sub.sid, sub.sid_length)
    cdef uint32_t at = slot, home
    conn.sid_count -= 1
    while True:
        at = (at + 1) & mask
        if conn.sids[at] is NULL:
            break
        home = <uint32_t>hash_bytes(conn.sids[at].sid, conn.sids[at].sid_length, plane.seed) & mask
        if ((at - home) & mask) >= ((at - slot) & mask):
            conn.sids[slot] = conn.sids[at]
            slot = at
    conn.sids[slot] = NULL


cdef Sub* subscribe(Plane* plane, Conn* conn, const uint8_t* subject, uint32_t subject_length, const uint8_t* queue,
                    uint32_t queue_length, const uint8_t* sid, uint32_t sid_length) noexcept nogil:
    """Subscribe a connection; the subject is valid and the sid not in use.

    Args:
        queue: queue name; queue_length 0 for a plain subscription.
    """
    cdef Account* account = plane.accounts[conn.account]
    cdef Interest* interest = interest_obtain(plane, account, subject, subject_length)
    cdef Sub* sub = <Sub*>must_calloc(1, <size_t>&(<Sub*>NULL).sid[0] + sid_length)
    sub.conn = conn
    sub.interest = interest
    sub.sid_length = <uint16_t>sid_length
    memcpy(sub.sid, sid, sid_length)
    if queue_length:
        sub.queue = queue_obtain(interest, queue, queue_length)
    if 4 * (conn.sid_count + 1) > 3 * conn.sid_capacity:
        sids_grow(plane, conn)
    conn.sids[sid_slot(plane, conn, sid, sid_length)] = sub
    conn.sid_count += 1
    plane.counters.subscriptions += 1
    interest_add(interest, sub)
    interest_list_local(account, interest)
    routes_changed(plane, account, interest)
    if sub.queue is not NULL or interest_told(interest) == 1:
        peers_tell(plane, interest, sub.queue)
    return sub


cdef void leave_interest(Plane* plane, Sub* sub) noexcept nogil:
    """Take the subscription out of its subject; nothing must refer to it any more."""
    cdef Interest* interest = sub.interest
    cdef Account* account = plane.accounts[interest.account]
    cdef QueueGroup* queue = sub.queue
    routes_changed(plane, account, interest)
    interest_remove(interest, sub)
    if sub.flags & (SUB_LOCAL | SUB_STICKY):
        interest.special.local_only -= sub.flags & SUB_LOCAL != 0
        interest.special.sticky -= sub.flags & SUB_STICKY != 0
    if queue is not NULL or sub.flags & SUB_STICKY or (not sub.flags & SUB_LOCAL and interest_told(interest) == 0):
        peers_tell(plane, interest, queue)
    if queue is not NULL:
        queue_release(plane, interest, queue)
    if not interest_has_local(interest):
        interest_unlist_local(plane, account, interest)
    interest_release(plane, account, interest)


cdef void end_subscription(Plane* plane, Sub* sub) noexcept nogil:
    leave_interest(plane, sub)
    plane.counters.subscriptions -= 1
    free(sub)


cdef void unsubscribe(Plane* plane, Sub* sub) noexcept nogil:
    """End a subscription; no message is being delivered."""
    sid_erase(plane, sub.conn, sub)
    end_subscription(plane, sub)


cdef void unsubscribe_all(Plane* plane, Conn* conn) noexcept nogil:
    """End all subscriptions of a connection."""
    cdef uint32_t i
    for i in range(conn.sid_capacity):
        if conn.sids[i] is not NULL:
            end_subscription(plane, conn.sids[i])
    free(conn.sids)
    conn.sids = NULL
    conn.sid_capacity = conn.sid_count = 0


cdef void sub_spent(Plane* plane, Sub* sub) noexcept nogil:
    """Note that a subscription got its last message; it ends with the next reap_spent."""
    sub.flags |= SUB_SPENT
    if plane.spent_count == plane.spent_capacity:
        plane.spent_capacity = 2 * plane.spent_capacity if plane.spent_capacity else 16
        plane.spent = <Sub**>must_realloc(plane.spent, plane.spent_capacity * sizeof(Sub*))
    plane.spent[plane.spent_count] = sub
    plane.spent_count += 1


cdef void reap_spent(Plane* plane) noexcept nogil:
    """End the subscriptions that are spent; called when the message in hand has been delivered."""
    while plane.spent_count:
        plane.spent_count -= 1
        unsubscribe(plane, plane.spent[plane.spent_count])


# ---- this worker's own -----------------------------------------------------------------------------------------

cdef Listener* listen(Plane* plane, uint32_t account_index, const uint8_t* subject, uint32_t length, void* sink,
                      uint16_t flags) noexcept nogil:
    """Have messages on a valid subject go to a sink.

    Args:
        flags: SUB_LOCAL, SUB_STICKY.
    """
    cdef Account* account = plane.accounts[account_index]
    cdef Interest* interest = interest_obtain(plane, account, subject, length)
    cdef Listener* listener = <Listener*>must_calloc(1, sizeof(Listener))
    listener.sink = sink
    listener.sub.conn = plane.internal
    listener.sub.interest = interest
    listener.sub.flags = flags
    if flags:
        interest_special(interest).local_only += flags & SUB_LOCAL != 0
        interest_special(interest).sticky += flags & SUB_STICKY != 0
    interest_add(interest, &listener.sub)
    interest_list_local(account, interest)
    routes_changed(plane, account, interest)
    if flags & SUB_STICKY or (not flags & SUB_LOCAL and interest_told(interest) == 1):
        peers_tell(plane, interest, NULL)
    return listener


cdef void unlisten(Plane* plane, Listener* listener) noexcept nogil:
    """End what listen began."""
    leave_interest(plane, &listener.sub)
    free(listener.excluded)
    free(listener)
