"""The C face of workers/jetstream/audience.pyx: from what a stream stored to the consumers that want it."""
from libc.stdint cimport uint32_t, uint64_t

from storage.index cimport StreamIndex


cdef class Pumps:
    cdef list ready

    cdef int add(self, Waiter waiter) except -1


cdef class Waiter:
    cdef readonly object policy
    cdef Pumps pumps
    cdef Audience audience
    cdef list patterns                     # its filters' Patterns
    cdef readonly bint is_ready            # in Pumps.ready
    cdef bint is_idle                      # it has seen that nothing is there for it, and is told when something comes
    cdef public bint chooses               # the policy picks the request of every message
    cdef uint64_t next_sequence            # first stream sequence not looked at; see Audience.catch_up

    cdef bint wants_c(self, uint64_t sequence) except -1
    cdef bint holds_any(self) except -1


cdef class Pattern:
    cdef bytes subject
    cdef list members                      # every Waiter with this filter
    cdef Py_ssize_t turn                   # the member that wanted a message when somebody asked last
    cdef dict waiting                      # Waiter -> None: of them, those with a request, in the order they came
    cdef uint64_t round                    # in which those were told last


cdef class Node:
    cdef dict children                     # token -> Node
    cdef Pattern here                      # the pattern that ends here, or None
    cdef Pattern rest                      # the one that goes on with `>`, or None


cdef class PatternIndex:
    cdef dict literals                     # subject -> Pattern
    cdef Node root                         # of those with wildcards

    cdef Pattern obtain(self, bytes subject)
    cdef int drop(self, Pattern pattern) except -1
    cdef int prune(self, Node node, list tokens, Py_ssize_t at) except -1
    cdef tuple match(self, bytes subject)
    cdef int match_tokens(self, Node node, list tokens, Py_ssize_t at, list found) except -1


cdef class Audience:
    cdef StreamIndex store
    cdef PatternIndex index
    cdef uint32_t* by_subject              # subject id -> base + index in known; below base: not known. Owned
    cdef uint32_t capacity
    cdef uint32_t base                     # grows by what known held when it is emptied
    cdef list known                        # tuples of Patterns, each but once
    cdef dict numbers                      # such a tuple -> its index in known
    cdef uint64_t position                 # in the subject table's changes, up to which by_subject is right
    cdef Py_ssize_t waiting_count          # waiters with a request
    cdef uint64_t told                     # the last sequence that they were told of
    cdef uint64_t round
    cdef dict holders                      # Waiter -> None: those that may hold messages
    cdef public uint64_t acknowledged      # messages that acknowledgements have removed
    cdef uint64_t seen                     # messages that went otherwise, when somebody asked last
    cdef readonly uint64_t looked_at       # waiters looked at, ever, for a message that came or was acknowledged

    cdef int join(self, Waiter waiter, subjects) except -1
    cdef int part(self, Waiter waiter) except -1
    cdef int begin_waiting(self, Waiter waiter) except -1
    cdef int end_waiting(self, Waiter waiter) except -1
    cdef int catch_up(self, Waiter waiter) except -1
    cdef uint64_t lost(self) noexcept
    cdef int forget_subjects(self) except -1
    cdef int refresh(self) except -1
    cdef tuple patterns_of(self, uint32_t id)
    cdef int tell(self, tuple patterns, uint64_t sequence) except -1
    cdef bint is_wanted_c(self, uint64_t sequence, Waiter by) except -1
