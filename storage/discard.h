/* Free large memory on a thread of its own: unmapping what was touched takes some 0.1 ms a MiB, too long for a
 * thread that answers clients. */
#ifndef MIDGE_STORAGE_DISCARD_H
#define MIDGE_STORAGE_DISCARD_H

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

/* Blocks from this size on are mapped each on its own, so freeing one gives it back; glibc would raise the bound
 * up to 32 MiB by itself and keep what was freed. */
enum { DISCARD_BYTES = 1 << 20 };

typedef struct discarded {
    struct discarded *next;
} discarded_t;

static pthread_mutex_t discard_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t discard_work = PTHREAD_COND_INITIALIZER;
static discarded_t *discard_list;   /* guarded by the mutex */
static pid_t discard_process;       /* whose thread it is: a forked child has none */

static void *discard_thread(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&discard_mutex);
        while (discard_list == NULL) pthread_cond_wait(&discard_work, &discard_mutex);
        discarded_t *list = discard_list;
        discard_list = NULL;
        pthread_mutex_unlock(&discard_mutex);
        while (list != NULL) {
            discarded_t *next = list->next;
            free(list);
            list = next;
        }
    }
    return NULL;
}

/* Start the thread, which takes no signals; to be called once, with nothing else running in this file. */
static inline void discard_start(void) {
    sigset_t all, before;
    pthread_t thread;
    mallopt(M_MMAP_THRESHOLD, DISCARD_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, discard_thread, NULL) == 0) {
        pthread_detach(thread);
        discard_process = getpid();
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Free memory from malloc that holds `bytes`. */
static inline void discard_memory(void *memory, size_t bytes) {
    if (memory == NULL || bytes < DISCARD_BYTES || discard_process != getpid()) {
        free(memory);
        return;
    }
    discarded_t *one = memory;
    pthread_mutex_lock(&discard_mutex);
    one->next = discard_list;
    discard_list = one;
    pthread_mutex_unlock(&discard_mutex);
    pthread_cond_signal(&discard_work);
}

#endif
