"""Who is interested in which subjects, per account: literals in a hash table, wildcards in a trie of tokens."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from workers.model cimport Account, Interest, Plane, QueueGroup, Special, Sub
from workers.octets cimport must_calloc


cdef enum SubjectKind:
    SUBJECT_INVALID = 0            # an empty token, or `>` before the end
    SUBJECT_LITERAL = 1
    SUBJECT_WILDCARD = 2


cdef SubjectKind subject_kind(const uint8_t* subject, uint32_t length) noexcept nogil
cdef uint32_t subject_tokens(const uint8_t* subject, uint32_t length) noexcept nogil

# Life of an account and of an interest. interest_release frees it once nobody is left in it.
cdef Account* account_new(uint32_t index) noexcept nogil
cdef void account_free(Account* account) noexcept nogil
cdef Interest* interest_find(Plane* plane, Account* account, const uint8_t* subject, uint32_t length) noexcept nogil
cdef Interest* interest_obtain(Plane* plane, Account* account, const uint8_t* subject, uint32_t length) noexcept nogil
cdef int interest_release(Plane* plane, Account* account, Interest* interest) noexcept nogil

# Members.
cdef Sub** interest_plain(Interest* interest) noexcept nogil
cdef void interest_add(Interest* interest, Sub* sub) noexcept nogil
cdef void interest_remove(Interest* interest, Sub* sub) noexcept nogil
cdef QueueGroup* queue_find(Interest* interest, const uint8_t* name, uint32_t length) noexcept nogil
cdef QueueGroup* queue_obtain(Interest* interest, const uint8_t* name, uint32_t length) noexcept nogil
cdef void queue_release(Plane* plane, Interest* interest, QueueGroup* queue) noexcept nogil
cdef uint32_t queue_remote_total(const QueueGroup* queue, uint32_t worker_count) noexcept nogil
cdef int interest_has_local(const Interest* interest) noexcept nogil
cdef void interest_list_local(Account* account, Interest* interest) noexcept nogil
cdef void interest_unlist_local(Plane* plane, Account* account, Interest* interest) noexcept nogil


cdef inline Special* interest_special(Interest* interest) noexcept nogil:
    if interest.special is NULL:
        interest.special = <Special*>must_calloc(1, sizeof(Special))
    return interest.special


cdef inline uint32_t interest_told(const Interest* interest) noexcept nogil:
    """Return the plain subscriptions that other workers are to know of."""
    return interest.plain_count - (interest.special.local_only if interest.special is not NULL else 0)


cdef void matched_add(Plane* plane, Interest* interest) noexcept nogil

# Fill Plane.matched with every interest that a published subject meets.
cdef void interest_match(Plane* plane, Account* account, const uint8_t* subject, uint32_t length) noexcept nogil
cdef int prefix_decides(Plane* plane, Account* account, const uint8_t* subject, uint32_t length) noexcept nogil
cdef int is_literal_wanted(Plane* plane, Account* account, const uint8_t* subject, uint32_t length) noexcept nogil
cdef int has_empty_token(const uint8_t* subject, uint32_t length) noexcept nogil
