# cython: language_level=3, embedsignature=True, wraparound=False
"""Output of a connection: chunks that deliveries append to and one write per round empties.

A connection without output holds no chunk. Chunks grow with what is queued, 1 KiB to 256 KiB, so that a small answer
touches little memory and a fast subscriber is written in few system calls. They are recycled last in, first out, to
stay in the cache. Large payloads are not copied: a chunk of class 0 refers to them where they were read; what the
socket did not take of them is copied before that memory is used again (out_own).
"""
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from workers.model cimport (
    CLOSE_CLIENT,
    CLOSE_SLOW_DEADLINE,
    CLOSE_SLOW_PENDING,
    CLOSE_WRITE_ERROR,
    CONN_BLOCKED,
    CONN_BORROWS,
    CONN_CLOSING,
    CONN_FLUSH_CLOSE,
    Chunk,
    CloseReason,
    Conn,
    Plane,
)
from workers.octets cimport OCTETS_SLACK, must_malloc
from workers.peers cimport peers_publish


cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
    ssize_t send(int fd, const void* data, size_t size, int flags)
    ssize_t sendmsg(int fd, const msghdr* message, int flags)


cdef enum:
    CLASS_BORROWED = 0             # a header only
    CLASS_LARGEST = 5
    CLASS_OVERSIZE = 6             # one message larger than the largest class; not pooled
    IOV_COUNT = 64
    EARLY_FLUSH_BYTES = 1 << 19    # queued bytes after which a connection is written before the round ends

# Payload sizes of the classes, and how many free chunks of each are kept (at most 2 MiB a class).
cdef size_t* CLASS_SIZES = [0, 1024 - 64, 4096 - 64, 16384 - 64, 65536 - 64, 262144 - 64, 0]
cdef uint32_t* CLASS_KEPT = [1024, 2048, 512, 128, 64, 32, 0]


cdef Chunk* chunk_new(Plane* plane, uint32_t size_class, size_t size) noexcept nogil:
    cdef Chunk* chunk
    if size_class < CLASS_OVERSIZE:
        size = CLASS_SIZES[size_class]
        chunk = plane.pool.free[size_class]
        if chunk is not NULL:
            plane.pool.free[size_class] = chunk.next
            plane.pool.free_count[size_class] -= 1
        else:
            chunk = <Chunk*>must_malloc(sizeof(Chunk) + size + OCTETS_SLACK)
    else:
        chunk = <Chunk*>must_malloc(sizeof(Chunk) + size + OCTETS_SLACK)
    chunk.next = NULL
    chunk.size_class = size_class
    chunk.start = <uint8_t*>(chunk + 1)
    chunk.end = chunk.start
    chunk.limit = chunk.start + size
    return chunk


cdef void chunk_free(Plane* plane, Chunk* chunk) noexcept nogil:
    cdef uint32_t size_class = chunk.size_class
    if size_class >= CLASS_OVERSIZE or plane.pool.free_count[size_class] >= CLASS_KEPT[size_class]:
        free(chunk)
        return
    chunk.next = plane.pool.free[size_class]
    plane.pool.free[size_class] = chunk
    plane.pool.free_count[size_class] += 1


cdef void pool_trim(Plane* plane) noexcept nogil:
    """Give half of the free chunks back; called from time to time so that a burst does not hold memory."""
    cdef uint32_t size_class, count
    cdef Chunk* chunk
    for size_class in range(CLASS_OVERSIZE):
        count = (plane.pool.free_count[size_class] + 1) // 2
        plane.pool.free_count[size_class] -= count
        while count:
            count -= 1
            chunk = plane.pool.free[size_class]
            plane.pool.free[size_class] = chunk.next
            free(chunk)


cdef void link_chunk(Conn* conn, Chunk* chunk) noexcept nogil:
    """Make `chunk` the tail."""
    cdef Chunk* tail = conn.out_tail
    if tail is NULL:
        conn.out_head = chunk
    else:
        tail.end = conn.cursor
        conn.queued += <uint64_t>(tail.end - tail.start)
        tail.next = chunk
    conn.out_tail = chunk
    conn.cursor = chunk.end
    conn.limit = chunk.limit


cdef void out_grow(Plane* plane, Conn* conn, size_t size) noexcept nogil:
    """Give the connection a tail chunk with room for `size` bytes.

    A connection with much output is written first, and closed as a slow consumer if that leaves more than
    Limits.max_pending; it then still gets its room, so that callers need no check. What was sent to the peers becomes
    visible before: the output may hold the PONG that confirms a subscription.
    """
    cdef uint64_t pending
    cdef uint32_t size_class = 1
    if conn.out_tail is not NULL:
        pending = out_pending(conn)
        if pending > EARLY_FLUSH_BYTES or pending + size > plane.limits.max_pending:
            if not conn.flags & (CONN_BLOCKED | CONN_CLOSING):
                peers_publish(plane)
                out_flush(plane, conn)
            pending = out_pending(conn)
            if pending + size > plane.limits.max_pending and not conn.flags & CONN_CLOSING:
                conn_close(plane, conn, CLOSE_SLOW_PENDING)
            if conn.flags & CONN_CLOSING:
                out_discard(plane, conn)
        if conn.out_tail is not NULL:
            size_class = conn.out_tail.size_class + 1
            if size_class > CLASS_LARGEST:
                size_class = CLASS_LARGEST
    while size_class <= CLASS_LARGEST and CLASS_SIZES[size_class] < size:
        size_class += 1
    link_chunk(conn, chunk_new(plane, size_class, size))


cdef void out_append(Plane* plane, Conn* conn, const uint8_t* text, size_t size) noexcept nogil:
    """Queue a copy of `size` bytes; for what is not a message (PONG, INFO, -ERR)."""
    memcpy(out_reserve(plane, conn, size), text, size)
    out_commit(plane, conn, size)


cdef void out_borrow(Plane* plane, Conn* conn, uint8_t* text, size_t size) noexcept nogil:
    """Queue `size` bytes without copying them; they must stay as they are until the round's flush is over."""
    cdef Chunk* chunk
    out_reserve(plane, conn, 1)                    # may flush, and may find a slow consumer
    chunk = chunk_new(plane, CLASS_BORROWED, 0)
    chunk.start = text
    chunk.end = text + size
    chunk.limit = chunk.end
    link_chunk(conn, chunk)
    conn.flags |= CONN_BORROWS
    out_commit(plane, conn, 0)


cdef void out_own(Plane* plane, Conn* conn) noexcept nogil:
    """Copy what the connection's output still borrows; needed before the memory behind it is used again."""
    cdef Chunk** link = &conn.out_head
    cdef Chunk* chunk
    cdef Chunk* copy
    cdef size_t size
    conn.flags &= ~<uint32_t>CONN_BORROWS
    while link[0] is not NULL:
        chunk = link[0]
        if chunk.size_class == CLASS_BORROWED:
            size = <size_t>(chunk.end - chunk.start)
            copy = chunk_new(plane, CLASS_OVERSIZE, size)
            memcpy(copy.start, chunk.start, size)
            copy.end = copy.start + size
            copy.next = chunk.next
            link[0] = copy
            if conn.out_tail is chunk:
                conn.out_tail = copy
                conn.cursor = copy.end
                conn.limit = copy.end
            chunk_free(plane, chunk)
            chunk = copy
        link = &chunk.next


cdef size_t gather(Conn* conn, iovec* parts, size_t* total) noexcept nogil:
    cdef Chunk* chunk = conn.out_head
    cdef size_t count = 0, size
    total[0] = 0
    while chunk is not NULL and count < IOV_COUNT:
        size = <size_t>(chunk.end - chunk.start)
        if size:
            parts[count].iov_base = chunk.start
            parts[count].iov_len = size
            total[0] += size
            count += 1
        chunk = chunk.next
    return count


cdef void take_written(Plane* plane, Conn* conn, size_t written) noexcept nogil:
    """Drop `written` bytes from the front of the output."""
    cdef Chunk* chunk
    cdef size_t size
    while conn.out_head is not NULL:
        chunk = conn.out_head
        size = <size_t>(chunk.end - chunk.start)
        if size > written:
            chunk.start += written
            if chunk is not conn.out_tail:
                conn.queued -= written
            return
        written -= size
        if chunk is conn.out_tail:
            conn.out_head = conn.out_tail = NULL
            conn.cursor = conn.limit = NULL
        else:
            conn.queued -= size
            conn.out_head = chunk.next
        chunk_free(plane, chunk)


cdef void out_flush(Plane* plane, Conn* conn) noexcept nogil:
    """Write as much as the socket takes."""
    cdef iovec parts[IOV_COUNT]
    cdef msghdr message
    cdef size_t count, total
    cdef ssize_t written
    if conn.flags & CONN_BLOCKED:
        return
    while conn.out_head is not NULL:
        conn.out_tail.end = conn.cursor
        count = gather(conn, parts, &total)
        if total == 0:
            take_written(plane, conn, 0)
            break
        if count == 1:
            written = send(conn.fd, parts[0].iov_base, total, MSG_DONTWAIT | MSG_NOSIGNAL)
        else:
            memset(&message, 0, sizeof(message))
            message.msg_iov = parts
            message.msg_iovlen = count
            written = sendmsg(conn.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        if written < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                conn.flags |= CONN_BLOCKED
                conn.blocked_since_ns = plane.now_ns
            else:
                conn_close(plane, conn, CLOSE_WRITE_ERROR)
            return
        take_written(plane, conn, <size_t>written)
        # A short write means that the socket is full: the next try would only be told so.
        if <size_t>written < total:
            conn.flags |= CONN_BLOCKED
            conn.blocked_since_ns = plane.now_ns
            return
    if conn.flags & CONN_FLUSH_CLOSE:
        conn_close(plane, conn, CLOSE_CLIENT)


cdef void out_discard(Plane* plane, Conn* conn) noexcept nogil:
    """Drop all output."""
    cdef Chunk* chunk
    while conn.out_head is not NULL:
        chunk = conn.out_head
        conn.out_head = chunk.next
        chunk_free(plane, chunk)
    conn.out_tail = NULL
    conn.cursor = conn.limit = NULL
    conn.queued = 0


cdef void conn_close(Plane* plane, Conn* conn, CloseReason reason) noexcept nogil:
    """Close a connection at the end of the round; from now on it is neither read nor delivered to."""
    if conn.flags & CONN_CLOSING:
        return
    if not conn.flags & CONN_FLUSH_CLOSE:
        conn.close_reason = reason
    conn.flags |= CONN_CLOSING
    if reason == CLOSE_SLOW_PENDING or reason == CLOSE_SLOW_DEADLINE:
        plane.counters.slow_consumers += 1
    conn.next_closing = plane.closing
    plane.closing = conn
