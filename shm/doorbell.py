"""The doorbell: an eventfd that wakes one worker. Only the descriptor; wake.h tells when to ring."""

from __future__ import annotations

import os
from typing import Self


class Doorbell:
    """One eventfd, non-blocking and close-on-exec; whoever makes the object owns the descriptor."""

    def __init__(self, fd: int) -> None:
        """Take over an eventfd, for example one received by SCM_RIGHTS."""
        self.fd = fd

    @classmethod
    def create(cls) -> Self:
        """Make a silent doorbell.

        Raises:
            OSError: no descriptor is left.
        """
        return cls(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))

    def fileno(self) -> int:
        """Return the descriptor, for selectors."""
        return self.fd

    def ring(self) -> None:
        """Make the descriptor readable; ringing twice before a clear is one ring."""
        os.eventfd_write(self.fd, 1)

    def clear(self) -> bool:
        """Make the descriptor silent; return whether it had been rung."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Close the descriptor; a second close does nothing."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)
