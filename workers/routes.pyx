# cython: language_level=3, embedsignature=True, wraparound=False
"""Where messages on a subject go: a cache of routes, and the calls that keep it true.

A Route is one block of memory made from all interest that a subject meets: a delivery per plain subscription with its
`HMSG subject sid ` prefix ready (a MSG is the same without the first byte), a choice per queue name with everybody in
it, and the workers that want a copy. A change of a literal's interest drops that subject's route; a change of a
wildcard's makes all routes of the account stale by its version, and each is made anew when it is next used.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memchr, memcmp, memcpy

from workers.model cimport CONN_INTERNAL, Account, Delivery, Interest, Plane, QueueChoice, QueueGroup, Route, Sub
from workers.octets cimport OCTETS_SLACK, find_dots, hash_bytes, must_calloc, must_malloc
from workers.sublist cimport (
    has_empty_token, interest_match, interest_plain, is_literal_wanted, prefix_decides, queue_remote_total,
)


cdef enum:
    ROUTES_FIRST = 1024            # buckets of a new cache
    # Some 250 bytes each, so 32 MiB. More distinct subjects than that are matched each time, which costs under 1 us.
    ROUTES_MAX = 1 << 17
    ACK_ROUTES = 1 << 31           # added to the account of routes that acknowledgements or requests share
    ACK_TOKENS = 9
    ACK_TOKENS_LONG = 11           # or more


cdef void routes_init(Plane* plane) noexcept nogil:
    plane.route_capacity = ROUTES_FIRST
    plane.routes = <Route**>must_calloc(ROUTES_FIRST, sizeof(Route*))
    plane.route_epoch = 1


cdef void routes_clear(Plane* plane) noexcept nogil:
    cdef uint64_t i
    cdef Route* route
    for i in range(plane.route_capacity):
        while plane.routes[i] is not NULL:
            route = plane.routes[i]
            plane.routes[i] = route.next
            free(route)
    plane.route_count = 0
    plane.route_epoch += 1


cdef void routes_free(Plane* plane) noexcept nogil:
    routes_clear(plane)
    free(plane.routes)


cdef void routes_grow(Plane* plane) noexcept nogil:
    cdef Route** old = plane.routes
    cdef uint64_t old_capacity = plane.route_capacity
    cdef uint64_t i
    cdef Route* route
    cdef Route** bucket
    plane.route_capacity = 2 * old_capacity
    plane.routes = <Route**>must_calloc(plane.route_capacity, sizeof(Route*))
    for i in range(old_capacity):
        while old[i] is not NULL:
            route = old[i]
            old[i] = route.next
            bucket = &plane.routes[route.hash & (plane.route_capacity - 1)]
            route.next = bucket[0]
            bucket[0] = route
    free(old)


# ---- building --------------------------------------------------------------------------------------------------

cdef QueueChoice* choice_of(QueueChoice* choices, uint32_t* count, QueueGroup* queue) noexcept nogil:
    """Return the choice for the queue's name, added to `choices` if it is the first of that name."""
    cdef uint32_t i
    cdef QueueChoice* choice
    for i in range(count[0]):
        if choices[i].name_length == queue.name_length and memcmp(choices[i].name, queue.name, queue.name_length) == 0:
            return &choices[i]
    choice = &choices[count[0]]
    choice.name = queue.name
    choice.name_length = queue.name_length
    choice.member_count = 0
    choice.remote_total = 0
    count[0] += 1
    return choice


cdef uint32_t collect_choices(Plane* plane, QueueChoice* choices) noexcept nogil:
    """Group the matched queue groups by name with their numbers of members; return how many names there are."""
    cdef uint32_t i, count = 0
    cdef QueueGroup* queue
    cdef QueueChoice* choice
    for i in range(plane.matched_count):
        queue = plane.matched[i].queues
        while queue is not NULL:
            choice = choice_of(choices, &count, queue)
            choice.member_count += queue.member_count
            choice.remote_total += queue_remote_total(queue, plane.worker_count)
            queue = queue.next
    return count


cdef uint8_t* fill_delivery(Delivery* delivery, Sub* sub, Route* route, uint8_t* text) noexcept nogil:
    """Fill one delivery and its prefix at `text`; return the end of the prefix."""
    delivery.conn = sub.conn
    delivery.sub = sub
    delivery.prefix = text
    memcpy(text, b"HMSG ", 5)
    memcpy(text + 5, route.subject, route.subject_length)
    text += 5 + route.subject_length
    text[0] = c" "
    memcpy(text + 1, sub.sid, sub.sid_length)
    text += 1 + sub.sid_length
    text[0] = c" "
    delivery.prefix_length = <uint64_t>(text + 1 - delivery.prefix)
    return text + 1


cdef uint8_t* fill_choice(Plane* plane, QueueChoice* choice, Route* route, Delivery* members, uint32_t* remote,
                          uint8_t* text) noexcept nogil:
    """Fill the members of one queue name over all matched subjects; return the end of the text used."""
    cdef uint32_t i, j, filled = 0
    cdef QueueGroup* queue
    choice.members = members
    choice.remote_members = remote
    for i in range(plane.matched_count):
        queue = plane.matched[i].queues
        while queue is not NULL:
            if queue.name_length == choice.name_length and memcmp(queue.name, choice.name, choice.name_length) == 0:
                for j in range(queue.member_count):
                    text = fill_delivery(&members[filled], queue.members[j], route, text)
                    filled += 1
                if queue.remote_members is not NULL:
                    for j in range(plane.worker_count):
                        remote[j] += queue.remote_members[j]
            queue = queue.next
    memcpy(text, choice.name, choice.name_length)
    choice.name = text
    return text + choice.name_length


cdef uint64_t text_size(Plane* plane, uint32_t subject_length, uint32_t* plain_count,
                        uint32_t* queue_count) noexcept nogil:
    """Return the bytes of all prefixes, and count subscriptions and queue groups of what is matched."""
    cdef uint32_t i, j
    cdef uint64_t size = subject_length
    cdef uint64_t prefix = <uint64_t>subject_length + 7
    cdef QueueGroup* queue
    cdef Sub** plain
    plain_count[0] = 0
    queue_count[0] = 0
    for i in range(plane.matched_count):
        plain = interest_plain(plane.matched[i])
        plain_count[0] += plane.matched[i].plain_count
        for j in range(plane.matched[i].plain_count):
            size += prefix + plain[j].sid_length
        queue = plane.matched[i].queues
        while queue is not NULL:
            queue_count[0] += 1
            size += queue.name_length
            for j in range(queue.member_count):
                size += prefix + queue.members[j].sid_length
            queue = queue.next
    return size


cdef Route* route_build(Plane* plane, Account* account, uint64_t hash, const uint8_t* subject,
                        uint32_t length) noexcept nogil:
    cdef uint32_t plain_count, queue_groups, queue_count = 0, members = 0, i, j, filled = 0
    cdef uint64_t text_bytes, choices_bytes, remote_bytes, deliveries_bytes
    cdef QueueChoice* choices = NULL
    cdef uint8_t* text
    cdef uint32_t* remote
    cdef Delivery* deliveries
    cdef Route* route
    cdef Sub** plain
    interest_match(plane, account, subject, length)
    text_bytes = text_size(plane, length, &plain_count, &queue_groups)
    if queue_groups:
        choices = <QueueChoice*>must_malloc(queue_groups * sizeof(QueueChoice))
        queue_count = collect_choices(plane, choices)
        for i in range(queue_count):
            members += choices[i].member_count
    deliveries_bytes = (plain_count + members) * sizeof(Delivery)
    choices_bytes = queue_count * sizeof(QueueChoice)
    remote_bytes = queue_count * plane.worker_count * sizeof(uint32_t)
    route = <Route*>must_malloc(sizeof(Route) + deliveries_bytes + choices_bytes + remote_bytes + text_bytes
                                + OCTETS_SLACK)
    deliveries = <Delivery*>(route + 1)
    remote = <uint32_t*>(<uint8_t*>deliveries + deliveries_bytes + choices_bytes)
    text = <uint8_t*>remote + remote_bytes
    for i in range(queue_count * plane.worker_count):
        remote[i] = 0
    route.hash = hash
    route.version = account.wildcard_version
    route.account = account.index
    route.remote_plain = 0
    route.plain = deliveries
    route.plain_count = plain_count
    route.queues = <QueueChoice*>(<uint8_t*>deliveries + deliveries_bytes)
    route.queue_count = queue_count
    route.subject = text
    route.subject_length = length
    memcpy(text, subject, length)
    text += length
    for i in range(plane.matched_count):
        route.remote_plain |= plane.matched[i].remote_plain
        plain = interest_plain(plane.matched[i])
        for j in range(plane.matched[i].plain_count):
            text = fill_delivery(&deliveries[filled], plain[j], route, text)
            filled += 1
    for i in range(queue_count):
        route.queues[i] = choices[i]
        text = fill_choice(plane, &route.queues[i], route, &deliveries[filled], remote + i * plane.worker_count, text)
        filled += route.queues[i].member_count
    free(choices)
    route.is_empty = plain_count == 0 and queue_count == 0 and route.remote_plain == 0
    return route


# ---- the cache -------------------------------------------------------------------------------------------------

cdef void route_drop(Plane* plane, Route** link) noexcept nogil:
    """Take a route that may be stale out of its chain."""
    cdef Route* route = link[0]
    link[0] = route.next
    free(route)
    plane.route_count -= 1
    plane.route_epoch += 1


cdef void route_keep(Plane* plane, Route* route) noexcept nogil:
    cdef Route** bucket
    plane.counters.route_misses += 1
    if plane.route_count >= ROUTES_MAX:
        routes_clear(plane)
    elif plane.route_count >= plane.route_capacity:
        routes_grow(plane)
    bucket = &plane.routes[route.hash & (plane.route_capacity - 1)]
    route.next = bucket[0]
    bucket[0] = route
    plane.route_count += 1
    plane.counters.routes_cached = plane.route_count


cdef Route* route_get(Plane* plane, uint32_t account_index, const uint8_t* subject, uint32_t length) noexcept nogil:
    """Return the route of a subject, valid until interest changes or another route is asked for."""
    cdef Account* account = plane.accounts[account_index]
    cdef uint64_t hash = hash_bytes(subject, length, plane.seed + account_index)
    cdef Route** link = &plane.routes[hash & (plane.route_capacity - 1)]
    cdef Route* route = link[0]
    while route is not NULL:
        if (route.hash == hash and route.subject_length == length and route.account == account_index
                and memcmp(route.subject, subject, length) == 0):
            if route.version == account.wildcard_version:
                return route
            route_drop(plane, link)
            break
        link = &route.next
        route = link[0]
    route = route_build(plane, account, hash, subject, length)
    route_keep(plane, route)
    return route


cdef uint32_t ack_key(const uint8_t* subject, uint32_t length) noexcept nogil:
    """Return how long the part of an acknowledgement's subject is that names its consumer, or 0 for other subjects.

    It is followed by five tokens of numbers: $JS.ACK.<stream>.<consumer>, or with domain and account before the stream.
    """
    cdef uint32_t dots[ACK_TOKENS_LONG]
    cdef int tokens
    if length < 12 or memcmp(subject, b"$JS.ACK.", 8) != 0:
        return 0
    tokens = 1 + find_dots(subject, length, dots, ACK_TOKENS_LONG)
    if tokens == ACK_TOKENS:
        return dots[3]
    return dots[5] if tokens >= ACK_TOKENS_LONG else 0


cdef uint32_t direct_get_key(const uint8_t* subject, uint32_t length) noexcept nogil:
    """Return how long $JS.API.DIRECT.GET.<stream> is if the subject goes on after it, or 0 for other subjects."""
    cdef const uint8_t* dot
    if length < 20 or memcmp(subject, b"$JS.API.DIRECT.GET.", 19) != 0:
        return 0
    dot = <const uint8_t*>memchr(subject + 19, c".", length - 19)
    return 0 if dot is NULL else <uint32_t>(dot - subject)


cdef int is_for_listeners(const Route* route) noexcept nogil:
    cdef uint32_t i
    for i in range(route.plain_count):
        if not route.plain[i].conn.flags & CONN_INTERNAL:
            return 0
    return route.queue_count == 0


cdef Route* route_of(Plane* plane, uint32_t account_index, const uint8_t* subject, uint32_t length) noexcept nogil:
    """Return the route of a client's message, valid until interest changes or another route is asked for.

    Acknowledgements have a subject each, so the ones of a consumer share a route, as long as it leads to this worker's
    listeners and other workers only; it is cached by the first part of the subject in an account of its own. So do
    requests of direct get with a key, if moreover nobody's interest tells those of one stream apart: 100,000 keys
    would be 100,000 routes, each found by two or three cache misses.
    """
    cdef uint32_t key = ack_key(subject, length)
    cdef uint32_t direct_key = 0
    cdef uint32_t index = account_index | ACK_ROUTES
    cdef Account* account = plane.accounts[account_index]
    cdef uint64_t hash
    cdef Route** link
    cdef Route* route
    if key == 0:
        key = direct_key = direct_get_key(subject, length)
        if (key == 0 or has_empty_token(subject + key + 1, length - key - 1)
                or is_literal_wanted(plane, account, subject, length)):
            return route_get(plane, account_index, subject, length)
    hash = hash_bytes(subject, key, plane.seed + index)
    link = &plane.routes[hash & (plane.route_capacity - 1)]
    while link[0] is not NULL:
        route = link[0]
        if (route.hash == hash and route.subject_length == key and route.account == index
                and memcmp(route.subject, subject, key) == 0):
            if route.version == account.wildcard_version:
                return route
            route_drop(plane, link)
            break
        link = &route.next
    if direct_key and not prefix_decides(plane, account, subject, direct_key):
        return route_get(plane, account_index, subject, length)
    route = route_build(plane, account, hash, subject, length)
    if not is_for_listeners(route):
        free(route)
        return route_get(plane, account_index, subject, length)
    route.account = index
    route.subject_length = key
    route_keep(plane, route)
    return route


cdef Route* route_once(Plane* plane, uint32_t account_index, const uint8_t* subject, uint32_t length,
                       int* is_cached) noexcept nogil:
    """Return the route of a subject that will hardly be used again; the caller frees it unless it is cached."""
    cdef Account* account = plane.accounts[account_index]
    cdef uint64_t hash = hash_bytes(subject, length, plane.seed + account_index)
    cdef Route* route = NULL
    # Looking for an inbox among many routes costs two cache misses, and it is hardly ever there.
    if length < 7 or memcmp(subject, b"_INBOX.", 7) != 0:
        route = plane.routes[hash & (plane.route_capacity - 1)]
    while route is not NULL:
        if (route.hash == hash and route.subject_length == length and route.account == account_index
                and route.version == account.wildcard_version and memcmp(route.subject, subject, length) == 0):
            is_cached[0] = 1
            return route
        route = route.next
    is_cached[0] = 0
    return route_build(plane, account, hash, subject, length)


cdef void routes_changed(Plane* plane, Account* account, Interest* interest) noexcept nogil:
    """Tell that somebody joined or left the interest; no route or memo from before is used after this."""
    cdef uint64_t hash
    cdef Route** link
    cdef Route* route
    plane.route_epoch += 1
    if interest.is_wildcard:
        account.wildcard_version += 1
        return
    hash = hash_bytes(interest.subject, interest.subject_length, plane.seed + account.index)
    link = &plane.routes[hash & (plane.route_capacity - 1)]
    while link[0] is not NULL:
        route = link[0]
        if (route.hash == hash and route.subject_length == interest.subject_length and route.account == account.index
                and memcmp(route.subject, interest.subject, interest.subject_length) == 0):
            link[0] = route.next
            free(route)
            plane.route_count -= 1
            return
        link = &route.next
