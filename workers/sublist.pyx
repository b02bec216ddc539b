# cython: language_level=3, embedsignature=True, wraparound=False
"""Who is interested in which subjects, per account: literals in a hash table, wildcards in a trie of tokens.

Most subscriptions are literal, so they pay for one table entry only and no token of theirs is stored twice. The trie
holds the subjects with wildcards; a trailing `*` or `>` is a pointer in its parent, not a node. An Interest is one
subscribed subject with everybody on it: the plain subscriptions and the queue groups of this worker's clients, and
which other workers have some.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memchr, memcmp, memcpy

from workers.model cimport Account, Interest, Plane, QueueGroup, Sub, TrieNode
from workers.octets cimport hash_bytes, must_calloc, must_malloc, must_realloc


cdef enum:
    DOT = 0x2E
    STAR = 0x2A
    FULL = 0x3E
    LITERALS_FIRST = 64            # slots of a new account's table
    CHILDREN_FIRST = 4


cdef SubjectKind subject_kind(const uint8_t* subject, uint32_t length) noexcept nogil:
    """Tell whether a subject to subscribe to is literal, has wildcards or is invalid; characters are not checked."""
    cdef uint32_t i, begin = 0
    cdef SubjectKind kind = SUBJECT_LITERAL
    for i in range(length + 1):
        if i < length and subject[i] != DOT:
            continue
        if i == begin:
            return SUBJECT_INVALID
        if i == begin + 1:
            if subject[begin] == STAR:
                kind = SUBJECT_WILDCARD
            elif subject[begin] == FULL:
                if i != length:
                    return SUBJECT_INVALID
                kind = SUBJECT_WILDCARD
        begin = i + 1
    return kind


cdef uint32_t subject_tokens(const uint8_t* subject, uint32_t length) noexcept nogil:
    """Return the number of tokens."""
    cdef uint32_t i, count = 1
    for i in range(length):
        count += subject[i] == DOT
    return count


cdef int has_empty_token(const uint8_t* subject, uint32_t length) noexcept nogil:
    cdef uint32_t i
    if length == 0 or subject[0] == DOT or subject[length - 1] == DOT:
        return 1
    for i in range(1, length):
        if subject[i] == DOT and subject[i - 1] == DOT:
            return 1
    return 0


# ---- accounts and the table of literals ------------------------------------------------------------------------

cdef TrieNode* trie_node(TrieNode* parent, const uint8_t* token, uint32_t length, uint32_t hash) noexcept nogil:
    cdef TrieNode* node = <TrieNode*>must_calloc(1, sizeof(TrieNode) + length)
    node.parent = parent
    node.token_hash = hash
    node.token_length = <uint16_t>length
    memcpy(node.token, token, length)
    return node


cdef Account* account_new(uint32_t index) noexcept nogil:
    """Make an empty subject space."""
    cdef Account* account = <Account*>must_calloc(1, sizeof(Account))
    account.index = index
    account.literal_capacity = LITERALS_FIRST
    account.literals = <Interest**>must_calloc(LITERALS_FIRST, sizeof(Interest*))
    account.wildcards = trie_node(NULL, NULL, 0, 0)
    return account


cdef void trie_free(TrieNode* node) noexcept nogil:
    cdef uint32_t i
    if node is NULL:
        return
    trie_free(node.star)
    for i in range(node.child_capacity):
        trie_free(node.children[i])
    interest_free(node.ends)
    interest_free(node.ends_star)
    interest_free(node.ends_full)
    free(node.children)
    free(node)


cdef void account_free(Account* account) noexcept nogil:
    """Free an account and all its interest; the subscriptions in it belong to their connections."""
    cdef uint64_t i
    for i in range(account.literal_capacity):
        interest_free(account.literals[i])
    free(account.literals)
    trie_free(account.wildcards)
    free(account)


cdef inline uint64_t literal_slot(Account* account, uint64_t hash, const uint8_t* subject,
                                  uint32_t length) noexcept nogil:
    """Return the slot of the subject, or the empty one where it belongs."""
    cdef uint64_t mask = account.literal_capacity - 1
    cdef uint64_t slot = hash & mask
    cdef Interest* found
    while True:
        found = account.literals[slot]
        if found is NULL or (found.hash == hash and found.subject_length == length
                             and memcmp(found.subject, subject, length) == 0):
            return slot
        slot = (slot + 1) & mask


cdef void literals_grow(Account* account) noexcept nogil:
    cdef Interest** old = account.literals
    cdef uint64_t old_capacity = account.literal_capacity
    cdef uint64_t i, slot, mask
    account.literal_capacity = 2 * old_capacity
    account.literals = <Interest**>must_calloc(account.literal_capacity, sizeof(Interest*))
    mask = account.literal_capacity - 1
    for i in range(old_capacity):
        if old[i] is not NULL:
            slot = old[i].hash & mask
            while account.literals[slot] is not NULL:
                slot = (slot + 1) & mask
            account.literals[slot] = old[i]
    free(old)


cdef void literal_erase(Account* account, uint64_t slot) noexcept nogil:
    """Empty a slot and move the entries behind it up, so that no probe ends early."""
    cdef uint64_t mask = account.literal_capacity - 1
    cdef uint64_t at = slot, home
    account.literal_count -= 1
    while True:
        at = (at + 1) & mask
        if account.literals[at] is NULL:
            break
        home = account.literals[at].hash & mask
        if ((at - home) & mask) >= ((at - slot) & mask):
            account.literals[slot] = account.literals[at]
            slot = at
    account.literals[slot] = NULL


# ---- the trie of wildcards -------------------------------------------------------------------------------------

cdef inline uint32_t token_end(const uint8_t* subject, uint32_t length, uint32_t begin) noexcept nogil:
    cdef const uint8_t* dot = <const uint8_t*>memchr(subject + begin, DOT, length - begin)
    return length if dot is NULL else <uint32_t>(dot - subject)


cdef uint32_t child_slot(const TrieNode* node, const uint8_t* token, uint32_t length, uint32_t hash) noexcept nogil:
    cdef uint32_t mask = node.child_capacity - 1
    cdef uint32_t slot = hash & mask
    cdef TrieNode* child
    while True:
        child = node.children[slot]
        if child is NULL or (child.token_hash == hash and child.token_length == length
                             and memcmp(child.token, token, length) == 0):
            return slot
        slot = (slot + 1) & mask


cdef void children_grow(TrieNode* node) noexcept nogil:
    cdef TrieNode** old = node.children
    cdef uint32_t old_capacity = node.child_capacity
    cdef uint32_t i, slot, mask
    node.child_capacity = 2 * old_capacity if old_capacity else CHILDREN_FIRST
    node.children = <TrieNode**>must_calloc(node.child_capacity, sizeof(TrieNode*))
    mask = node.child_capacity - 1
    for i in range(old_capacity):
        if old[i] is not NULL:
            slot = old[i].token_hash & mask
            while node.children[slot] is not NULL:
                slot = (slot + 1) & mask
            node.children[slot] = old[i]
    free(old)


cdef void child_erase(TrieNode* node, TrieNode* child) noexcept nogil:
    cdef uint32_t mask = node.child_capacity - 1
    cdef uint32_t slot = child_slot(node, child.token, child.token_length, child.token_hash)
    cdef uint32_t at = slot, home
    node.child_count -= 1
    while True:
        at = (at + 1) & mask
        if node.children[at] is NULL:
            break
        home = node.children[at].token_hash & mask
        if ((at - home) & mask) >= ((at - slot) & mask):
            node.children[slot] = node.children[at]
            slot = at
    node.children[slot] = NULL


cdef TrieNode* child_of(Plane* plane, TrieNode* node, const uint8_t* token, uint32_t length, int create) noexcept nogil:
    """Return the node for one more token (`*` included), or NULL."""
    cdef uint32_t hash, slot
    if length == 1 and token[0] == STAR:
        if node.star is NULL and create:
            node.star = trie_node(node, NULL, 0, 0)
        return node.star
    hash = <uint32_t>hash_bytes(token, length, plane.seed)
    if node.child_capacity:
        slot = child_slot(node, token, length, hash)
        if node.children[slot] is not NULL:
            return node.children[slot]
    if not create:
        return NULL
    if 4 * (node.child_count + 1) > 3 * node.child_capacity:
        children_grow(node)
    slot = child_slot(node, token, length, hash)
    node.children[slot] = trie_node(node, token, length, hash)
    node.child_count += 1
    return node.children[slot]


cdef Interest** wildcard_place(Plane* plane, Account* account, const uint8_t* subject, uint32_t length, int create,
                               TrieNode** owner) noexcept nogil:
    """Return where the trie points to the subject's interest, and the node that holds the pointer; or NULL."""
    cdef TrieNode* node = account.wildcards
    cdef uint32_t begin = 0, end
    while True:
        end = token_end(subject, length, begin)
        owner[0] = node
        if end == length and end == begin + 1:
            if subject[begin] == FULL:
                return &node.ends_full
            if subject[begin] == STAR:
                return &node.ends_star
        node = child_of(plane, node, subject + begin, end - begin, create)
        if node is NULL:
            return NULL
        if end == length:
            owner[0] = node
            return &node.ends
        begin = end + 1


cdef void trie_prune(TrieNode* node) noexcept nogil:
    """Free a node that nothing needs any more, and its parents likewise; the root stays."""
    cdef TrieNode* parent
    while (node.parent is not NULL and node.ends is NULL and node.ends_star is NULL and node.ends_full is NULL
           and node.star is NULL and node.child_count == 0):
        parent = node.parent
        if parent.star is node:
            parent.star = NULL
        else:
            child_erase(parent, node)
        free(node.children)
        free(node)
        node = parent


# ---- interest --------------------------------------------------------------------------------------------------

cdef Interest* interest_new(uint64_t hash, uint32_t account, const uint8_t* subject, uint32_t length) noexcept nogil:
    cdef Interest* interest = <Interest*>must_calloc(1, <size_t>&(<Interest*>NULL).subject[0] + length)
    interest.hash = hash
    interest.account = account
    interest.subject_length = <uint16_t>length
    memcpy(interest.subject, subject, length)
    return interest


cdef void interest_free(Interest* interest) noexcept nogil:
    if interest is NULL:
        return
    while interest.queues is not NULL:
        queue_drop(interest, interest.queues)
    if interest.plain_capacity:
        free(interest.plain)
    free(interest.special)
    free(interest)


cdef Interest* interest_find(Plane* plane, Account* account, const uint8_t* subject, uint32_t length) noexcept nogil:
    """Return the interest in exactly this subject (valid, see subject_kind), or NULL."""
    cdef TrieNode* owner
    cdef Interest** place
    cdef uint64_t hash
    if subject_kind(subject, length) == SUBJECT_WILDCARD:
        place = wildcard_place(plane, account, subject, length, 0, &owner)
        return NULL if place is NULL else place[0]
    hash = hash_bytes(subject, length, plane.seed)
    return account.literals[literal_slot(account, hash, subject, length)]


cdef Interest* interest_obtain(Plane* plane, Account* account, const uint8_t* subject, uint32_t length) noexcept nogil:
    """Return the interest in exactly this subject, made if there was none."""
    cdef TrieNode* owner
    cdef Interest** place
    cdef uint64_t hash, slot
    if subject_kind(subject, length) == SUBJECT_WILDCARD:
        place = wildcard_place(plane, account, subject, length, 1, &owner)
        if place[0] is NULL:
            place[0] = interest_new(0, account.index, subject, length)
            place[0].is_wildcard = 1
            account.wildcard_count += 1
        return place[0]
    hash = hash_bytes(subject, length, plane.seed)
    slot = literal_slot(account, hash, subject, length)
    if account.literals[slot] is NULL:
        if 3 * (account.literal_count + 1) > 2 * account.literal_capacity:
            literals_grow(account)
            slot = literal_slot(account, hash, subject, length)
        account.literals[slot] = interest_new(hash, account.index, subject, length)
        account.literal_count += 1
    return account.literals[slot]


cdef int interest_release(Plane* plane, Account* account, Interest* interest) noexcept nogil:
    """Free the interest if neither this worker's clients nor another worker are in it; return whether it was."""
    cdef TrieNode* owner
    cdef Interest** place
    if interest.plain_count or interest.queues is not NULL or interest.remote_plain:
        return 0
    if interest.is_wildcard:
        place = wildcard_place(plane, account, interest.subject, interest.subject_length, 0, &owner)
        place[0] = NULL
        account.wildcard_count -= 1
        trie_prune(owner)
    else:
        literal_erase(account, literal_slot(account, interest.hash, interest.subject, interest.subject_length))
    interest_free(interest)
    return 1


cdef int interest_has_local(const Interest* interest) noexcept nogil:
    """Return whether one of this worker's clients is in it."""
    cdef QueueGroup* queue = interest.queues
    if interest.plain_count:
        return 1
    while queue is not NULL:
        if queue.member_count:
            return 1
        queue = queue.next
    return 0


cdef void interest_list_local(Account* account, Interest* interest) noexcept nogil:
    """Put it in front of the account's list of subjects with local interest."""
    if interest.is_local:
        return
    interest.is_local = 1
    interest.local_previous = NULL
    interest.local_next = account.local_head
    if account.local_head is not NULL:
        account.local_head.local_previous = interest
    account.local_head = interest


cdef void interest_unlist_local(Plane* plane, Account* account, Interest* interest) noexcept nogil:
    """Take it out of that list; a resync that stands at it goes on with the next."""
    cdef uint32_t i
    if not interest.is_local:
        return
    interest.is_local = 0
    for i in range(plane.worker_count):
        if plane.peers[i] is not NULL and plane.peers[i].sync_cursor is interest:
            plane.peers[i].sync_cursor = interest.local_next
    if interest.local_next is not NULL:
        interest.local_next.local_previous = interest.local_previous
    if interest.local_previous is not NULL:
        interest.local_previous.local_next = interest.local_next
    else:
        account.local_head = interest.local_next


# ---- members ---------------------------------------------------------------------------------------------------

cdef Sub** interest_plain(Interest* interest) noexcept nogil:
    """Return the plain subscriptions, Interest.plain_count of them."""
    return interest.plain if interest.plain_capacity else <Sub**>&interest.plain


cdef void interest_add(Interest* interest, Sub* sub) noexcept nogil:
    """Add a subscription to its queue's members or to the plain ones."""
    cdef Sub* only
    cdef QueueGroup* queue = sub.queue
    if queue is not NULL:
        if queue.member_count == queue.member_capacity:
            queue.member_capacity = 2 * queue.member_capacity if queue.member_capacity else 1
            queue.members = <Sub**>must_realloc(queue.members, queue.member_capacity * sizeof(Sub*))
        sub.position = queue.member_count
        queue.members[queue.member_count] = sub
        queue.member_count += 1
        return
    if interest.plain_count == 0 and interest.plain_capacity == 0:
        interest.plain = <Sub**>sub
    else:
        if interest.plain_capacity == 0:
            only = <Sub*>interest.plain
            interest.plain_capacity = 4
            interest.plain = <Sub**>must_malloc(4 * sizeof(Sub*))
            interest.plain[0] = only
        elif interest.plain_count == interest.plain_capacity:
            interest.plain_capacity *= 2
            interest.plain = <Sub**>must_realloc(interest.plain, interest.plain_capacity * sizeof(Sub*))
        interest.plain[interest.plain_count] = sub
    sub.position = interest.plain_count
    interest.plain_count += 1


cdef void interest_remove(Interest* interest, Sub* sub) noexcept nogil:
    """Take a subscription out; the last one moves to its place."""
    cdef QueueGroup* queue = sub.queue
    if queue is not NULL:
        queue.member_count -= 1
        queue.members[sub.position] = queue.members[queue.member_count]
        queue.members[sub.position].position = sub.position
        return
    interest.plain_count -= 1
    if interest.plain_capacity:
        interest.plain[sub.position] = interest.plain[interest.plain_count]
        interest.plain[sub.position].position = sub.position
        if interest.plain_count == 0:
            free(interest.plain)
            interest.plain_capacity = 0
            interest.plain = NULL


cdef QueueGroup* queue_find(Interest* interest, const uint8_t* name, uint32_t length) noexcept nogil:
    """Return the queue group of that name, or NULL."""
    cdef QueueGroup* queue = interest.queues
    while queue is not NULL:
        if queue.name_length == length and memcmp(queue.name, name, length) == 0:
            return queue
        queue = queue.next
    return NULL


cdef QueueGroup* queue_obtain(Interest* interest, const uint8_t* name, uint32_t length) noexcept nogil:
    """Return the queue group of that name, made if there was none."""
    cdef QueueGroup* queue = queue_find(interest, name, length)
    if queue is NULL:
        queue = <QueueGroup*>must_calloc(1, <size_t>&(<QueueGroup*>NULL).name[0] + length + 1)
        queue.name_length = <uint16_t>length
        memcpy(queue.name, name, length)
        queue.next = interest.queues
        interest.queues = queue
    return queue


cdef void queue_drop(Interest* interest, QueueGroup* queue) noexcept nogil:
    cdef QueueGroup** link = &interest.queues
    while link[0] is not queue:
        link = &link[0].next
    link[0] = queue.next
    free(queue.members)
    free(queue.remote_members)
    free(queue)


cdef uint32_t queue_remote_total(const QueueGroup* queue, uint32_t worker_count) noexcept nogil:
    """Return the number of members on other workers."""
    cdef uint32_t i, total = 0
    if queue.remote_members is not NULL:
        for i in range(worker_count):
            total += queue.remote_members[i]
    return total


cdef void queue_release(Plane* plane, Interest* interest, QueueGroup* queue) noexcept nogil:
    """Free the queue group if it has no member anywhere."""
    if queue.member_count == 0 and queue_remote_total(queue, plane.worker_count) == 0:
        queue_drop(interest, queue)


# ---- matching --------------------------------------------------------------------------------------------------

cdef void matched_add(Plane* plane, Interest* interest) noexcept nogil:
    """Add an interest, unless it is NULL, to Plane.matched."""
    if interest is NULL:
        return
    if plane.matched_count == plane.matched_capacity:
        plane.matched_capacity = 2 * plane.matched_capacity if plane.matched_capacity else 16
        plane.matched = <Interest**>must_realloc(plane.matched, plane.matched_capacity * sizeof(Interest*))
    plane.matched[plane.matched_count] = interest
    plane.matched_count += 1


cdef void match_below(Plane* plane, TrieNode* node, const uint8_t* subject, uint32_t length,
                      uint32_t begin) noexcept nogil:
    """Add what the tokens from `begin` on meet below `node`; at least one token is left."""
    cdef uint32_t end = token_end(subject, length, begin)
    cdef TrieNode* child = NULL
    cdef uint32_t hash
    matched_add(plane, node.ends_full)
    if end == length:
        matched_add(plane, node.ends_star)
    if node.child_capacity:
        hash = <uint32_t>hash_bytes(subject + begin, end - begin, plane.seed)
        child = node.children[child_slot(node, subject + begin, end - begin, hash)]
    if end == length:
        if child is not NULL:
            matched_add(plane, child.ends)
        if node.star is not NULL:
            matched_add(plane, node.star.ends)
        return
    if child is not NULL:
        match_below(plane, child, subject, length, end + 1)
    if node.star is not NULL:
        match_below(plane, node.star, subject, length, end + 1)


cdef void interest_match(Plane* plane, Account* account, const uint8_t* subject, uint32_t length) noexcept nogil:
    """Fill Plane.matched with every interest that a published subject meets.

    Wildcards in the published subject are literal tokens; one with an empty token meets nothing.
    """
    cdef uint64_t hash = hash_bytes(subject, length, plane.seed)
    cdef Interest* literal = account.literals[literal_slot(account, hash, subject, length)]
    plane.matched_count = 0
    if has_empty_token(subject, length):
        return
    matched_add(plane, literal)
    if account.wildcard_count:
        match_below(plane, account.wildcards, subject, length, 0)


cdef int is_literal_wanted(Plane* plane, Account* account, const uint8_t* subject, uint32_t length) noexcept nogil:
    """Return whether somebody subscribes to exactly this subject."""
    cdef uint64_t hash = hash_bytes(subject, length, plane.seed)
    return account.literals[literal_slot(account, hash, subject, length)] is not NULL


cdef int tail_matters(Plane* plane, TrieNode* node, const uint8_t* subject, uint32_t length,
                      uint32_t begin) noexcept nogil:
    cdef uint32_t end, hash
    cdef TrieNode* child
    if begin > length:
        return node.child_count != 0 or node.star is not NULL or node.ends_star is not NULL
    end = token_end(subject, length, begin)
    if node.child_capacity:
        hash = <uint32_t>hash_bytes(subject + begin, end - begin, plane.seed)
        child = node.children[child_slot(node, subject + begin, end - begin, hash)]
        if child is not NULL and tail_matters(plane, child, subject, length, end + 1):
            return 1
    return node.star is not NULL and tail_matters(plane, node.star, subject, length, end + 1)


cdef int prefix_decides(Plane* plane, Account* account, const uint8_t* subject, uint32_t length) noexcept nogil:
    """Return whether all longer subjects that begin with these tokens meet the same wildcards."""
    return account.wildcard_count == 0 or not tail_matters(plane, account.wildcards, subject, length, 0)
