# cython: language_level=3
"""The sleep protocol of wake.h for Cython. Contracts are there."""

from shm.layout cimport wake_words_t

cdef extern from "wake.h" nogil:
    void wake_prepare_sleep(wake_words_t *words)
    void wake_cancel_sleep(wake_words_t *words)
    int wake_needed(wake_words_t *words)
    void control_announce(wake_words_t *words)
    int control_take(wake_words_t *words)


cdef class WakeWords:
    cdef wake_words_t *words        # in the region
    cdef readonly object owner      # keeps the memory mapped; None: the caller does
