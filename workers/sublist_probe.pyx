# cython: language_level=3, embedsignature=True, wraparound=False
"""A subject space by itself, for tests and measurements of sublist.pyx; no worker uses this module."""
cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from workers.model cimport Account, Interest, Plane, QueueGroup, Sub, TrieNode
from workers.octets cimport must_calloc, must_realloc
from workers.sublist cimport (
    SUBJECT_INVALID,
    SUBJECT_LITERAL,
    SUBJECT_WILDCARD,
    account_free,
    account_new,
    interest_add,
    interest_match,
    interest_obtain,
    interest_plain,
    interest_release,
    interest_remove,
    queue_obtain,
    queue_release,
    queue_remote_total,
    subject_kind,
)


cdef extern from "<malloc.h>" nogil:
    ctypedef struct mallinfo2_t "struct mallinfo2":
        size_t uordblks
        size_t hblkhd
    mallinfo2_t mallinfo2()


cdef void count_nodes(const TrieNode* node, uint64_t* nodes, uint64_t* wildcards) noexcept nogil:
    cdef uint32_t i
    if node is NULL:
        return
    nodes[0] += 1
    wildcards[0] += (node.ends is not NULL) + (node.ends_star is not NULL) + (node.ends_full is not NULL)
    count_nodes(node.star, nodes, wildcards)
    for i in range(node.child_capacity):
        count_nodes(node.children[i], nodes, wildcards)


@cython.final
cdef class Sublist:
    """One subject space by itself; subscriptions belong to no connection and are named by the caller's numbers."""

    cdef Plane plane
    cdef Account* account
    cdef Sub** subs                        # by number
    cdef uint64_t sub_capacity

    def __cinit__(self, uint32_t worker_count=4, uint64_t seed=1):
        memset(&self.plane, 0, sizeof(Plane))
        self.plane.worker_count = worker_count
        self.plane.seed = seed
        self.account = account_new(0)

    def __dealloc__(self):
        cdef uint64_t i
        for i in range(self.sub_capacity):
            free(self.subs[i])
        free(self.subs)
        if self.account is not NULL:
            account_free(self.account)
        free(self.plane.matched)

    def insert(self, uint64_t number, bytes subject, bytes queue=b""):
        """Add a subscription under a number that is free.

        Raises:
            ValueError: the subject is invalid or the number is taken.
        """
        cdef uint64_t capacity = max(16, self.sub_capacity)
        cdef Interest* interest
        cdef Sub* sub
        if kind_of(subject) == "invalid" or (number < self.sub_capacity and self.subs[number] is not NULL):
            raise ValueError(f"cannot subscribe {number} to {subject!r}")
        while capacity <= number:
            capacity *= 2
        if capacity > self.sub_capacity:
            self.subs = <Sub**>must_realloc(self.subs, capacity * sizeof(Sub*))
            memset(self.subs + self.sub_capacity, 0, (capacity - self.sub_capacity) * sizeof(Sub*))
            self.sub_capacity = capacity
        interest = interest_obtain(&self.plane, self.account, subject, <uint32_t>len(subject))
        sub = <Sub*>must_calloc(1, sizeof(Sub))
        sub.interest = interest
        sub.delivered = number             # nothing is delivered here, so that the field is free for it
        if queue:
            sub.queue = queue_obtain(interest, queue, <uint32_t>len(queue))
        interest_add(interest, sub)
        self.subs[number] = sub

    def remove(self, uint64_t number):
        """Take a subscription out.

        Raises:
            KeyError: there is none of that number.
        """
        cdef Sub* sub = self.subs[number] if number < self.sub_capacity else NULL
        if sub is NULL:
            raise KeyError(number)
        self.subs[number] = NULL
        interest_remove(sub.interest, sub)
        if sub.queue is not NULL:
            queue_release(&self.plane, sub.interest, sub.queue)
        interest_release(&self.plane, self.account, sub.interest)
        free(sub)

    def set_remote(self, uint32_t worker, bytes subject, bytes queue, uint32_t count):
        """Take over how many subscriptions another worker has, as an interest frame says it."""
        cdef Interest* interest = interest_obtain(&self.plane, self.account, subject, <uint32_t>len(subject))
        cdef QueueGroup* group
        if queue:
            group = queue_obtain(interest, queue, <uint32_t>len(queue))
            if group.remote_members is NULL:
                group.remote_members = <uint32_t*>must_calloc(self.plane.worker_count, sizeof(uint32_t))
            group.remote_members[worker] = count
            queue_release(&self.plane, interest, group)
        elif count:
            interest.remote_plain |= <uint64_t>1 << worker
        else:
            interest.remote_plain &= ~(<uint64_t>1 << worker)
        interest_release(&self.plane, self.account, interest)

    def match(self, bytes subject):
        """Return what a published subject meets.

        Returns:
            Numbers of plain subscriptions, sorted; members of each queue name, sorted; the workers with plain
            subscriptions; the number of other workers' members of each queue name that has some.
        """
        cdef uint32_t i, j
        cdef uint64_t workers = 0
        cdef QueueGroup* queue
        cdef dict queues = {}, remote = {}
        cdef list plain = []
        interest_match(&self.plane, self.account, subject, <uint32_t>len(subject))
        for i in range(self.plane.matched_count):
            workers |= self.plane.matched[i].remote_plain
            for j in range(self.plane.matched[i].plain_count):
                plain.append(interest_plain(self.plane.matched[i])[j].delivered)
            queue = self.plane.matched[i].queues
            while queue is not NULL:
                name = queue.name[:queue.name_length]
                for j in range(queue.member_count):
                    queues.setdefault(name, []).append(queue.members[j].delivered)
                if queue_remote_total(queue, self.plane.worker_count):
                    remote[name] = remote.get(name, 0) + queue_remote_total(queue, self.plane.worker_count)
                queue = queue.next
        for name in queues:
            queues[name].sort()
        return sorted(plain), queues, {w for w in range(self.plane.worker_count) if (workers >> w) & 1}, remote

    def match_all(self, list subjects, int rounds):
        """Match all the subjects so many times, for measuring; return how many subscribed subjects were met."""
        cdef uint64_t met = 0
        cdef bytes subject
        for _ in range(rounds):
            for subject in subjects:
                interest_match(&self.plane, self.account, subject, <uint32_t>len(subject))
                met += self.plane.matched_count
        return met

    def stats(self):
        """Count what there is: literals, wildcards, trie nodes (the root included)."""
        cdef uint64_t i, literals = 0, nodes = 0, wildcards = 0
        for i in range(self.account.literal_capacity):
            literals += self.account.literals[i] is not NULL
        count_nodes(self.account.wildcards, &nodes, &wildcards)
        if literals != self.account.literal_count or wildcards != self.account.wildcard_count:
            raise AssertionError("the counts are not what is there")
        return {"literals": literals, "wildcards": wildcards, "nodes": nodes}


def kind_of(bytes subject):
    """Return "literal", "wildcard" or "invalid", as of a subject to subscribe to."""
    return {SUBJECT_LITERAL: "literal", SUBJECT_WILDCARD: "wildcard", SUBJECT_INVALID: "invalid"}[
        subject_kind(subject, <uint32_t>len(subject))]


def heap_bytes():
    """Return the bytes that this process has from malloc now."""
    cdef mallinfo2_t info = mallinfo2()
    return info.uordblks + info.hblkhd
