# cython: language_level=3, embedsignature=True, wraparound=False
"""Do writes and syncs in the order given, off the caller's thread, and report each by callback.

The thread works on C jobs without the GIL, so a commit neither waits for the interpreter nor stops it; only
`call` jobs (rename, unlink, directory sync: rare) take it. Callbacks run in the caller's thread, inside
`reap`, in order; `event_fd` becomes readable when there is something to reap. With `threaded=False`, or for
files without a descriptor, `reap` itself does the jobs through the File objects: that is how tests see every
write in a repeatable order.

A *chain* is a number from the caller: once a job of a chain fails, later jobs of that chain are not done and
report ECANCELED (a checkpoint must not go on after a failed sync).
"""

import os
import select
import threading

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EINTR, EIO, errno as c_errno
from libc.stdlib cimport malloc, realloc
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from storage.files import write_all


cdef extern from "<errno.h>" nogil:
    int ECANCELED

cdef extern from "<malloc.h>" nogil:
    int malloc_trim(size_t pad)

cdef extern from "<unistd.h>" nogil:
    ssize_t c_pwrite "pwrite"(int fd, const void *data, size_t size, long offset)
    int c_fdatasync "fdatasync"(int fd)
    int c_close "close"(int fd)
    ssize_t c_write "write"(int fd, const void *data, size_t size)

cdef extern from "frame.h" nogil:
    int FRAME_ALIGN
    void frame_seal(uint8_t *frame)
    void frame_make_empty(uint8_t *frame, uint64_t position)
    void crc32c_choose()

cdef extern from "discard.h" nogil:
    void discard_start()
    void discard_memory(void *memory, size_t bytes)

crc32c_choose()
discard_start()

cdef enum:
    WRITE = 1
    SYNC = 2
    FRAME = 3           # seal a journal frame, write it, sync
    FRAME_NO_SYNC = 4
    CALL = 5
    STOP = 6


def trim_memory():
    """Give memory that was freed back to the system: large blocks come and go with checkpoints."""
    malloc_trim(0)


cdef void discard(void *memory, size_t bytes) noexcept nogil:
    discard_memory(memory, bytes)


cdef class Block:
    """Memory that jobs may read while nobody moves it."""

    def __cinit__(self, size_t capacity):
        self.data = <uint8_t *>malloc(capacity or 1)
        if self.data == NULL:
            raise MemoryError
        self.capacity = capacity

    def __dealloc__(self):
        discard(self.data, self.capacity)

    cdef int shrink(self, size_t size) except -1:
        """Give back what lies behind the first `size` bytes; only while no job uses it."""
        cdef uint8_t *data = <uint8_t *>realloc(self.data, size or 1)
        if data == NULL:
            raise MemoryError
        self.data, self.capacity = data, size
        return 0

    cdef int grow(self, size_t needed) except -1:
        """Make room for `needed` bytes in all; only while no job uses it."""
        cdef size_t capacity = max(needed, self.capacity + self.capacity // 2)
        cdef uint8_t *data
        if needed <= self.capacity:
            return 0
        data = <uint8_t *>realloc(self.data, capacity)
        if data == NULL:
            raise MemoryError
        self.data, self.capacity = data, capacity
        return 0

    @staticmethod
    def of(bytes data not None):
        """Return a block with a copy of `data`."""
        cdef Block block = Block(PyBytes_GET_SIZE(data))
        memcpy(block.data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return block


def empty_frame(uint64_t position):
    """Return the page of an empty journal frame for `position`."""
    cdef uint8_t page[4096]
    frame_make_empty(page, position)
    return PyBytes_FromStringAndSize(<char *>page, FRAME_ALIGN)


cdef uint64_t now_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <uint64_t>t.tv_sec * 1000000000 + <uint64_t>t.tv_nsec


cdef int write_fully(int fd, const uint8_t *data, size_t size, uint64_t offset) noexcept nogil:
    """Return 0 or an errno."""
    cdef ssize_t written
    while size:
        written = c_pwrite(fd, data, size, <long>offset)
        if written < 0:
            if c_errno == EINTR:
                continue
            return c_errno
        if written == 0:
            return EIO
        data += written
        offset += <uint64_t>written
        size -= <size_t>written
    return 0


cdef int sync_fully(int fd) noexcept nogil:
    while c_fdatasync(fd) != 0:
        if c_errno != EINTR:
            return c_errno
    return 0


cdef int run_job(job_t *job) noexcept nogil:
    """Do a job that has a descriptor; return 0 or an errno."""
    cdef int error
    if job.kind == WRITE:
        return write_fully(job.fd, job.data, job.size, job.offset)
    if job.kind == SYNC:
        return sync_fully(job.fd)
    frame_seal(<uint8_t *>job.data)
    error = write_fully(job.fd, job.data, job.size, job.offset)
    if error == 0 and job.kind == FRAME:
        error = sync_fully(job.fd)
    return error


cdef void write_empty_frame(int fd, uint64_t position, uint64_t offset) noexcept nogil:
    """Say that the frame before `offset` was the last one for now.

    Not synced: it is only needed when that frame is found damaged, long after.
    """
    cdef uint8_t empty[4096]
    frame_make_empty(empty, position)
    write_fully(fd, empty, FRAME_ALIGN, offset)


cdef class Writer:
    """A queue of jobs and the thread that does them."""

    def __cinit__(self, *, bint threaded=True, str name="storage-writer"):
        self.event_fd = -1
        self.queue_head = self.queue_tail = self.done_head = self.done_tail = NULL
        pthread_mutex_init(&self.mutex, NULL)
        pthread_cond_init(&self.work, NULL)
        self.is_threaded = threaded
        self.failed_chains = set()
        if threaded:
            self.event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self.thread = threading.Thread(target=self._work, name=name, daemon=True)
            self.thread.start()

    def __dealloc__(self):
        if self.event_fd >= 0:
            c_close(self.event_fd)
        pthread_cond_destroy(&self.work)
        pthread_mutex_destroy(&self.mutex)

    @property
    def notify_fd(self):
        """A descriptor that is readable when `reap` has something to do; -1 without a thread."""
        return self.event_fd

    cdef job_t *make_job(self, int kind, object file, object block, object callback) except NULL:
        cdef job_t *job = <job_t *>PyMem_RawMalloc(sizeof(job_t))
        if job == NULL:
            raise MemoryError
        parts = (file, block, callback)
        Py_INCREF(parts)
        job.next, job.kind, job.data, job.size, job.offset = NULL, kind, NULL, 0, 0
        job.chain, job.error, job.nanoseconds = 0, 0, 0
        job.fd = -1 if file is None or kind == CALL else file.direct_fd
        job.parts = <void *>parts
        return job

    cdef int submit(self, job_t *job) except -1:
        cdef bint waiting
        self.pending += 1
        self.pending_bytes += job.size
        pthread_mutex_lock(&self.mutex)
        if self.queue_tail == NULL:
            self.queue_head = job
        else:
            self.queue_tail.next = job
        self.queue_tail = job
        waiting = self.waiting
        pthread_mutex_unlock(&self.mutex)
        if waiting:
            # Not with the mutex held: the thread would wake only to wait for it.
            pthread_cond_signal(&self.work)
        return 0

    cdef bint is_idle(self) noexcept:
        """Tell whether everything submitted is done and reaped and the thread touches no file."""
        cdef bint idle = self.pending == 0
        if idle and self.is_threaded:
            pthread_mutex_lock(&self.mutex)
            idle = self.waiting
            pthread_mutex_unlock(&self.mutex)
        return idle

    cdef int run_now(self, job_t *job) except -1:
        """Do a job in the calling thread, which must find the writer idle, and free it; return 0 or an errno."""
        cdef int error
        if job.fd >= 0:
            error = run_job(job)
        else:
            self.run_inline(job)
            error = job.error
        Py_DECREF(<tuple>job.parts)
        PyMem_RawFree(job)
        return error

    def write(self, file, Block block not None, size_t start, size_t size, uint64_t offset, callback, *,
              uint64_t chain=0):
        """Write `size` bytes from `start` of the block at `offset`; callback(error number, nanoseconds)."""
        if start + size > block.capacity:
            raise ValueError(f"{size} bytes from {start} of a block of {block.capacity}")
        cdef job_t *job = self.make_job(WRITE, file, block, callback)
        job.data, job.size, job.offset, job.chain = block.data + start, size, offset, chain
        self.submit(job)

    def write_frame(self, file, Block block not None, size_t size, uint64_t offset, bint sync, callback):
        """Seal the journal frame in `block`, write its `size` bytes and, when `sync`, sync the file."""
        if size > block.capacity or size % FRAME_ALIGN:
            raise ValueError(f"frame of {size} bytes in a block of {block.capacity}")
        cdef job_t *job = self.make_job(FRAME if sync else FRAME_NO_SYNC, file, block, callback)
        job.data, job.size, job.offset = block.data, size, offset
        self.submit(job)

    def write_frame_now(self, file, Block block not None, size_t size, uint64_t offset):
        """Seal and write a journal frame in the calling thread, unsynced, without a switch to the writer's.

        Returns:
            0, the error number, or -1: the writer is busy, nothing was done.
        """
        cdef job_t *job
        if not self.is_idle():
            return -1
        job = self.make_job(FRAME_NO_SYNC, file, block, None)
        job.data, job.size, job.offset = block.data, size, offset
        return self.run_now(job)

    def sync(self, file, callback, *, uint64_t chain=0):
        """Sync a file; callback(error number, nanoseconds)."""
        cdef job_t *job = self.make_job(SYNC, file, None, callback)
        job.chain = chain
        self.submit(job)

    def call(self, function, callback, *, uint64_t chain=0):
        """Call function() on the thread; an OSError of it is the error reported."""
        cdef job_t *job = self.make_job(CALL, function, None, callback)
        job.chain = chain
        self.submit(job)

    cdef int run_inline(self, job_t *job) except -1:
        """Do a job through its Python objects and set its error. Holds the GIL."""
        cdef uint8_t empty[4096]
        cdef uint64_t position
        file, _, _ = <tuple>job.parts
        try:
            if job.kind == CALL:
                file()
            elif job.kind == SYNC:
                file.fdatasync()
            else:
                if job.kind != WRITE:
                    frame_seal(<uint8_t *>job.data)
                write_all(file, job.data[:job.size], job.offset)
                if job.kind == FRAME:
                    file.fdatasync()
                    memcpy(&position, job.data + 8, 8)
                    frame_make_empty(empty, position + job.size)
                    try:
                        write_all(file, (<const uint8_t *>empty)[:FRAME_ALIGN], job.offset + job.size)
                    except OSError:
                        # Nothing rests on it; the next commit will meet the same trouble and report it.
                        pass
        except OSError as error:
            job.error = error.errno or EIO
        return 0

    def _work(self):
        """Do jobs until stop(); the body of the thread."""
        cdef job_t *job
        cdef uint64_t one = 1
        cdef uint64_t started
        cdef uint64_t position = 0
        cdef uint64_t offset = 0
        cdef bint is_last
        cdef int fd
        with nogil:
            while True:
                pthread_mutex_lock(&self.mutex)
                while self.queue_head == NULL:
                    self.waiting = True
                    pthread_cond_wait(&self.work, &self.mutex)
                    self.waiting = False
                job = self.queue_head
                self.queue_head = job.next
                is_last = self.queue_head == NULL
                if is_last:
                    self.queue_tail = NULL
                pthread_mutex_unlock(&self.mutex)
                job.next = NULL
                started = now_ns()
                if job.chain and job.chain == self.failed_chain:
                    job.error = ECANCELED
                elif job.kind == STOP:
                    pass
                elif job.kind == CALL or job.fd < 0:
                    with gil:
                        self.run_inline(job)
                else:
                    job.error = run_job(job)
                if job.error and job.chain:
                    self.failed_chain = job.chain
                job.nanoseconds = now_ns() - started
                fd = -1
                if is_last and job.kind == FRAME and job.error == 0:
                    # When it is in the done list it may be freed: what follows it must be known before.
                    fd, offset = job.fd, job.offset + job.size
                    memcpy(&position, job.data + 8, 8)
                    position += job.size
                is_last = job.kind == STOP
                pthread_mutex_lock(&self.mutex)
                if self.done_tail == NULL:
                    self.done_head = job
                else:
                    self.done_tail.next = job
                self.done_tail = job
                pthread_mutex_unlock(&self.mutex)
                c_write(self.event_fd, &one, 8)
                if fd >= 0:
                    write_empty_frame(fd, position, offset)
                if is_last:
                    break

    def _run_queue_inline(self):
        cdef job_t *job
        while self.queue_head != NULL:
            job = self.queue_head
            self.queue_head = job.next
            if self.queue_head == NULL:
                self.queue_tail = NULL
            job.next = NULL
            if job.chain and job.chain in self.failed_chains:
                job.error = ECANCELED
            else:
                self.run_inline(job)
            if job.error and job.chain:
                self.failed_chains.add(job.chain)
            if self.done_tail == NULL:
                self.done_head = job
            else:
                self.done_tail.next = job
            self.done_tail = job

    def reap(self):
        """Call the callbacks of finished jobs, in order, and return how many there were."""
        cdef job_t *job
        cdef job_t *following
        cdef Py_ssize_t count = 0
        if not self.is_threaded:
            self._run_queue_inline()
        elif self.done_head != NULL:
            try:
                os.eventfd_read(self.event_fd)
            except BlockingIOError:
                pass
        pthread_mutex_lock(&self.mutex)
        job = self.done_head
        self.done_head = self.done_tail = NULL
        pthread_mutex_unlock(&self.mutex)
        while job != NULL:
            following = job.next
            self.pending -= 1
            self.pending_bytes -= job.size
            parts = <tuple>job.parts
            error, nanoseconds = job.error, job.nanoseconds
            Py_DECREF(parts)
            PyMem_RawFree(job)
            job = following
            count += 1
            if parts[2] is not None:
                parts[2](error, nanoseconds)
        return count

    def wait(self, double timeout_s):
        """Return when there is something to reap, or after `timeout_s` seconds."""
        if self.is_threaded and self.pending and self.done_head == NULL:
            select.select([self.event_fd], [], [], timeout_s)

    def drain(self):
        """Wait for every job submitted so far and for those that their callbacks submit; run the
        callbacks."""
        while self.pending:
            self.wait(1.0)
            self.reap()

    def stop(self):
        """Do what is queued, then end the thread. Nothing may be submitted afterwards."""
        if not self.is_threaded:
            self.reap()
            return
        self.submit(self.make_job(STOP, None, None, None))
        self.thread.join()
        self.is_threaded = False
        self.reap()
        os.close(self.event_fd)
        self.event_fd = -1
