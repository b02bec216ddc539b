"""The C face of storage/writer.pyx: writes and syncs done in order, on a thread that does not hold the
GIL."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_destroy(pthread_mutex_t *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_cond_init(pthread_cond_t *, void *)
    int pthread_cond_destroy(pthread_cond_t *)
    int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *)
    int pthread_cond_signal(pthread_cond_t *)


# Frees memory from malloc that holds `bytes`, large memory on another thread.
cdef void discard(void *memory, size_t bytes) noexcept nogil


cdef class Block:
    cdef uint8_t *data
    cdef readonly size_t capacity

    cdef int grow(self, size_t needed) except -1
    cdef int shrink(self, size_t size) except -1


ctypedef struct job_t:
    job_t *next
    int kind
    int fd                      # of its file, or -1: through the File object
    const uint8_t *data
    size_t size
    uint64_t offset
    uint64_t chain              # after a failed job, later ones of the same chain (not 0) are not done
    int error                   # errno, 0: done
    uint64_t nanoseconds        # that it took
    void *parts                 # a tuple (file, block, callable, callback): owned, released in reap


cdef class Writer:
    cdef job_t *queue_head
    cdef job_t *queue_tail
    cdef job_t *done_head
    cdef job_t *done_tail
    cdef pthread_mutex_t mutex          # guards the two lists, `stopping` and `waiting`
    cdef pthread_cond_t work
    cdef bint stopping
    cdef bint waiting                   # the thread has nothing to do
    cdef int event_fd
    cdef readonly bint is_threaded
    cdef readonly uint64_t pending      # jobs submitted and not reaped
    cdef readonly uint64_t pending_bytes
    cdef set failed_chains              # inline mode
    cdef uint64_t failed_chain          # the thread's newest failed chain
    cdef object thread

    cdef job_t *make_job(self, int kind, object file, object block, object callback) except NULL
    cdef int submit(self, job_t *job) except -1
    cdef bint is_idle(self) noexcept
    cdef int run_now(self, job_t *job) except -1
    cdef int run_inline(self, job_t *job) except -1
