# cython: language_level=3, embedsignature=True, wraparound=False
"""A worker's wake words for Python callers and tests; compiled code uses the C functions of wake.h."""

cimport cython
from libc.stdint cimport uintptr_t


@cython.final
cdef class WakeWords:
    """One worker's wake words; only that worker calls prepare_sleep, cancel_sleep and take_control."""

    def __init__(self, uintptr_t address, owner=None):
        """Use the wake words at an address, which stays mapped for as long as this object is used.

        Args:
            address: of a wake_words_t.
            owner: kept alive with this object, for example the Region.
        """
        self.words = <wake_words_t *>address
        self.owner = owner

    def prepare_sleep(self):
        """Say that this worker is about to block; it then looks at all its rings once more before it does."""
        wake_prepare_sleep(self.words)

    def cancel_sleep(self):
        """Say that this worker is awake."""
        wake_cancel_sleep(self.words)

    def needs_ring(self):
        """Ask, after publishing, whether to ring the owner's doorbell; one caller only is told so."""
        return wake_needed(self.words) == 1

    def announce_control(self):
        """Say that control frames were published to this worker; ask needs_ring() after it."""
        control_announce(self.words)

    def take_control(self):
        """Ask whether control frames were announced since the last call; if so, poll the control rings."""
        return control_take(self.words) == 1
