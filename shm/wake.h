/* How a worker sleeps without missing work, and how others wake it with one write at most.
 *
 * Sleeper: wake_prepare_sleep, look once more at every ring, block on the eventfd (or, if work was found,
 * wake_cancel_sleep). Waker: publish to a ring (or announce), then wake_needed; when it returns 1, write
 * the eventfd. Either the sleeper's second look sees the publish or the waker sees `sleeping`: both put a
 * sequential fence between their store and their load. A busy worker costs its wakers one load of a line
 * that nobody writes.
 *
 * Must not know rings or eventfds.
 */
#ifndef MIDGE_SHM_WAKE_H
#define MIDGE_SHM_WAKE_H

#include "atomics.h"
#include "layout.h"

/* Owner: say that it is about to block. It must then look at all its rings before it does. */
static inline void wake_prepare_sleep(wake_words_t *words) {
    atomic_store_relaxed_u32(&words->sleeping, 1);
    atomic_fence_sequential(); /* pairs with the fence in wake_needed */
}

/* Owner: say that it is awake, after its second look found work or something else woke it. */
static inline void wake_cancel_sleep(wake_words_t *words) {
    if (atomic_load_relaxed_u32(&words->sleeping)) atomic_store_relaxed_u32(&words->sleeping, 0);
}

/* Others, after publishing: 1 if the caller must write the owner's eventfd. Of several callers one is told so. */
static inline int wake_needed(wake_words_t *words) {
    atomic_fence_sequential(); /* pairs with the fence in wake_prepare_sleep */
    if (!atomic_load_relaxed_u32(&words->sleeping)) return 0;
    return (int)atomic_exchange_u32(&words->sleeping, 0);
}

/* Others, after publishing to a control ring and before publishing anything that depends on it. Pairs with
 * control_take. The caller then asks wake_needed. */
static inline void control_announce(wake_words_t *words) { atomic_store_release_u32(&words->control_pending, 1); }

/* Owner: 1 if control frames were announced since the last take; it must then poll its control rings. One
 * load when there is nothing. The exchange comes before the polls, so what is announced later is taken
 * later. */
static inline int control_take(wake_words_t *words) {
    if (!atomic_load_acquire_u32(&words->control_pending)) return 0;
    return (int)atomic_exchange_u32(&words->control_pending, 0);
}

#endif
