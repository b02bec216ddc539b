# cython: language_level=3, embedsignature=True, wraparound=False
"""From what a stream stored to the consumers that want it, so that a message costs what it matches.

Every consumer is in the `Pattern` of each of its filters. A message's subject leads to the patterns that match it: by
the subject's id in the stream, as long as no filter comes or goes and the id stays the subject's, else by a hash table
of the literal filters and a trie of the others.

A consumer that has looked and found nothing is *idle*: the next message for it is the first one that it is told of. So
it need not look at what lies between, and nobody looks at it meanwhile.
"""
from storage.errors import StorageError

from libc.stdlib cimport free
from libc.string cimport memset

from storage.index cimport Segment
from storage.subjects cimport SubjectTable
from workers.octets cimport must_realloc


cdef enum:
    BASE_MAX = 0x80000000


# ---- whose turn it is ------------------------------------------------------------------------------------------

cdef class Pumps:
    """The consumers of one worker that have something to do."""

    def __init__(self):
        """Begin with none."""
        self.ready = []

    def __len__(self):
        return len(self.ready)

    cdef int add(self, Waiter waiter) except -1:
        if not waiter.is_ready:
            waiter.is_ready = True
            self.ready.append(waiter)
        return 0

    def run(self):
        """Let every ready consumer's policy pump once; return whether some have more to do."""
        cdef list ready = self.ready
        cdef Waiter waiter
        self.ready = []
        for waiter in ready:
            waiter.is_ready = False
        for waiter in ready:
            try:
                waiter.policy.pump()
            except StorageError as error:
                waiter.policy.unreadable(error)
            if waiter.patterns is not None and waiter.holds_any():
                waiter.audience.holders[waiter] = None
        return len(self.ready) > 0


cdef class Waiter:
    """What an audience knows of a consumer; ConsumerCore is one."""

    cdef bint wants_c(self, uint64_t sequence) except -1:
        """Return whether a stored message of one of its subjects is still to be delivered or acknowledged."""
        return False

    cdef bint holds_any(self) except -1:
        """Return whether it knows messages by their sequences, so that it matters to it when one goes."""
        return False


# ---- filters ---------------------------------------------------------------------------------------------------

cdef class Pattern:
    """One filter, and the consumers that have it."""

    def __cinit__(self, bytes subject):
        """Begin without any."""
        self.subject, self.members, self.waiting = subject, [], {}


cdef class Node:
    """A place in the trie of wildcard filters."""

    def __cinit__(self):
        """Begin without children."""
        self.children = {}


cdef class PatternIndex:
    """The filters of a stream's consumers."""

    def __init__(self):
        """Begin with none."""
        self.literals = {}
        self.root = Node()

    cdef Pattern obtain(self, bytes subject):
        """Return the pattern of a filter, making it if there is none."""
        cdef list tokens = subject.split(b".")
        cdef Node node = self.root, child
        cdef Py_ssize_t at, count = len(tokens)
        if b"*" not in tokens and tokens[count - 1] != b">":
            if subject not in self.literals:
                self.literals[subject] = Pattern(subject)
            return self.literals[subject]
        for at in range(count):
            if at == count - 1 and tokens[at] == b">":
                if node.rest is None:
                    node.rest = Pattern(subject)
                return node.rest
            child = node.children.get(tokens[at])
            if child is None:
                child = node.children[tokens[at]] = Node()
            node = child
        if node.here is None:
            node.here = Pattern(subject)
        return node.here

    cdef int drop(self, Pattern pattern) except -1:
        """Forget a pattern that nobody has any more."""
        if self.literals.pop(pattern.subject, None) is None:
            self.prune(self.root, pattern.subject.split(b"."), 0)
        return 0

    cdef int prune(self, Node node, list tokens, Py_ssize_t at) except -1:
        """Take the pattern of these tokens out below a node, and the nodes that nothing needs then."""
        cdef Node child
        if at == len(tokens):
            node.here = None
            return 0
        if at == len(tokens) - 1 and tokens[at] == b">":
            node.rest = None
            return 0
        child = node.children[tokens[at]]
        self.prune(child, tokens, at + 1)
        if child.here is None and child.rest is None and not child.children:
            del node.children[tokens[at]]
        return 0

    cdef tuple match(self, bytes subject):
        """Return the patterns that match a literal subject."""
        cdef list found = []
        cdef object literal = self.literals.get(subject)
        if literal is not None:
            found.append(literal)
        self.match_tokens(self.root, subject.split(b"."), 0, found)
        return tuple(found)

    cdef int match_tokens(self, Node node, list tokens, Py_ssize_t at, list found) except -1:
        cdef object child
        if at == len(tokens):
            if node.here is not None:
                found.append(node.here)
            return 0
        if node.rest is not None:
            found.append(node.rest)
        if not node.children:
            return 0
        child = node.children.get(tokens[at])
        if child is not None:
            self.match_tokens(<Node>child, tokens, at + 1, found)
        # A stored subject may have a `*` in it, which is a token as any other.
        if tokens[at] != b"*":
            child = node.children.get(b"*")
            if child is not None:
                self.match_tokens(<Node>child, tokens, at + 1, found)
        return 0


# ---- one stream ------------------------------------------------------------------------------------------------

cdef class Audience:
    """The consumers of one stream."""

    def __init__(self, StreamIndex store not None):
        """Begin with none."""
        self.store = store
        self.index = PatternIndex()
        self.known, self.numbers, self.holders = [], {}, {}
        self.base = 1
        self.told = store.last_sequence
        self.seen = <uint64_t>-1

    def __dealloc__(self):
        free(self.by_subject)

    # ---- who belongs to it

    cdef int join(self, Waiter waiter, subjects) except -1:
        """Count a consumer in that has these filters, instead of those that it had."""
        cdef Pattern pattern
        cdef bint is_waiting = waiter.patterns is not None and waiter in (<Pattern>waiter.patterns[0]).waiting
        self.part(waiter)
        waiter.patterns = []
        for subject in dict.fromkeys(subjects):
            pattern = self.index.obtain(subject)
            pattern.members.append(waiter)
            waiter.patterns.append(pattern)
            if len(pattern.members) == 1:
                self.forget_subjects()
        if is_waiting:
            self.begin_waiting(waiter)
        return 0

    def leave(self, Waiter waiter not None):
        """Forget a consumer."""
        self.part(waiter)
        self.holders.pop(waiter, None)

    cdef int part(self, Waiter waiter) except -1:
        """Take a consumer away from its filters."""
        cdef Pattern pattern
        if waiter.patterns is None:
            return 0
        self.end_waiting(waiter)
        for pattern in waiter.patterns:
            pattern.members.remove(waiter)
            if not pattern.members:
                self.index.drop(pattern)
                self.forget_subjects()
        waiter.patterns = None
        return 0

    cdef int begin_waiting(self, Waiter waiter) except -1:
        """Have a consumer told of messages: it has a request."""
        cdef Pattern pattern
        if waiter.patterns is None or waiter in (<Pattern>waiter.patterns[0]).waiting:
            return 0
        if self.waiting_count == 0:
            # Nobody was there to be told of what came before.
            self.told = self.store.last_sequence
        self.waiting_count += 1
        for pattern in waiter.patterns:
            pattern.waiting[waiter] = None
        return 0

    cdef int end_waiting(self, Waiter waiter) except -1:
        """Tell a consumer no more."""
        cdef Pattern pattern
        if waiter.patterns is None or waiter not in (<Pattern>waiter.patterns[0]).waiting:
            return 0
        self.catch_up(waiter)
        waiter.is_idle = False
        self.waiting_count -= 1
        for pattern in waiter.patterns:
            del pattern.waiting[waiter]
        return 0

    cdef int catch_up(self, Waiter waiter) except -1:
        """Take into account that nothing was for an idle consumer of what the others were told of."""
        if waiter.is_idle and waiter.next_sequence <= self.told:
            waiter.next_sequence = self.told + 1
        return 0

    # ---- what comes

    def wake(self):
        """Have those pumped for which the stream has something new."""
        cdef uint64_t sequence = max(self.told + 1, self.store.first_sequence)
        cdef uint64_t last = self.store.last_sequence
        cdef Py_ssize_t at
        cdef Segment segment
        cdef uint32_t row
        cdef tuple patterns, before = None
        if self.waiting_count and sequence <= last:
            self.refresh()
            self.round += 1
            at = self.store.segment_index(sequence)
            while at < len(self.store.segments):
                segment = <Segment>self.store.segments[at]
                at += 1
                if segment.live == 0:
                    continue
                self.store.ensure(segment)
                row = <uint32_t>(sequence - segment.base) if sequence > segment.base else 0
                while row < segment.rows:
                    if not segment.is_dead(row):
                        patterns = self.patterns_of(segment.subject[row])
                        if patterns is not before:
                            self.tell(patterns, segment.base + row)
                            before = patterns
                    row += 1
        self.told = last

    cdef int tell(self, tuple patterns, uint64_t sequence) except -1:
        """Tell those who wait of the first message in this round that a pattern of theirs matches."""
        cdef Pattern pattern
        cdef Waiter waiter
        for pattern in patterns:
            if pattern.round == self.round:
                continue
            pattern.round = self.round
            for waiter in pattern.waiting:
                self.looked_at += 1
                if waiter.is_idle:
                    waiter.is_idle = False
                    waiter.next_sequence = max(waiter.next_sequence, sequence)
                elif not waiter.chooses:
                    # It has work to do, or waits for something else than messages.
                    continue
                waiter.pumps.add(waiter)
        return 0

    # ---- subjects

    cdef int forget_subjects(self) except -1:
        """Have every subject matched again when it comes next."""
        if self.base > BASE_MAX:
            memset(self.by_subject, 0, self.capacity * sizeof(uint32_t))
            self.base = 1
        self.base += <uint32_t>len(self.known)
        self.known.clear()
        self.numbers.clear()
        return 0

    cdef int refresh(self) except -1:
        """Forget what is known of ids that have been given to other subjects since."""
        cdef SubjectTable table = self.store.subjects
        cdef uint64_t at
        cdef uint32_t id
        if self.position < table.changes_base:
            self.forget_subjects()
        elif self.known:
            for at in range(self.position - table.changes_base, table.changes_count):
                id = table.changes[at]
                if id < self.capacity:
                    self.by_subject[id] = 0
        self.position = table.changes_base + table.changes_count
        if self.capacity < table.size:
            self.by_subject = <uint32_t*>must_realloc(self.by_subject, 2 * table.size * sizeof(uint32_t))
            memset(self.by_subject + self.capacity, 0, (2 * table.size - self.capacity) * sizeof(uint32_t))
            self.capacity = 2 * table.size
        return 0

    cdef tuple patterns_of(self, uint32_t id):
        """Return the patterns that match the subject of an id; refresh has been called."""
        cdef object number
        cdef tuple found
        if self.by_subject[id] >= self.base:
            return <tuple>self.known[self.by_subject[id] - self.base]
        found = self.index.match(self.store.subjects.name(id))
        number = self.numbers.get(found)
        if number is None:
            number = self.numbers[found] = len(self.known)
            self.known.append(found)
        self.by_subject[id] = self.base + <uint32_t>number
        return found

    def wants_subject(self, bytes subject not None):
        """Return whether a consumer has a filter that a literal subject matches."""
        return len(self.index.match(subject)) > 0

    # ---- what goes

    cdef uint64_t lost(self) noexcept:
        """Return how many messages went, ever, by anything else than acknowledgements."""
        return self.store.last_sequence - self.store.messages - self.acknowledged

    def lost_messages(self):
        """Return whether messages went since the last time by anything else than acknowledgements."""
        cdef uint64_t gone = self.lost()
        if gone == self.seen:
            return False
        self.seen = gone
        return True

    def holding(self):
        """Return the consumers to which it may matter that messages went."""
        cdef Waiter waiter
        self.holders = {waiter: None for waiter in self.holders if waiter.holds_any()}
        return list(self.holders)

    def is_wanted(self, uint64_t sequence, Waiter by=None):
        """Return whether a consumer, other than `by`, has still to deliver a stored message or wait for its
        acknowledgement."""
        return self.is_wanted_c(sequence, by)

    cdef bint is_wanted_c(self, uint64_t sequence, Waiter by) except -1:
        cdef Segment segment = self.store.segment_of(sequence)
        cdef Pattern pattern
        cdef Waiter waiter
        cdef Py_ssize_t step, at
        if segment is None or segment.is_dead(<uint32_t>(sequence - segment.base)):
            return False
        self.store.ensure(segment)
        self.refresh()
        for pattern in self.patterns_of(segment.subject[sequence - segment.base]):
            # Whoever wanted it last time wants it still, as a rule: asking around once a message is enough.
            for step in range(len(pattern.members)):
                at = (pattern.turn + step) % len(pattern.members)
                waiter = <Waiter>pattern.members[at]
                self.looked_at += 1
                if waiter is not by and waiter.wants_c(sequence):
                    pattern.turn = at
                    return True
        return False
