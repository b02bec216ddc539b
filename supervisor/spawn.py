"""Starts one worker process.

posix_spawn instead of subprocess: no module to import at start, and no fork of a large process later. A
worker

- inherits standard error and its end of the link, nothing else: every other descriptor is close-on-exec;
- has a process group of its own, so that Ctrl-C in a terminal reaches the supervisor alone, which stops it
  in order;
- begins with no signal blocked, though the supervisor blocks some until it can handle them;
- ends by itself when its end of the link says that the supervisor is gone.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from typing import NamedTuple

# -I: neither the environment nor the working directory may put other modules in front of ours.
WORKER_COMMAND = (sys.executable, "-I", "-m", "workers")
PRELOAD_JETSTREAM = "--preload-jetstream"
"""Lets a worker import JetStream while the supervisor still prepares what to tell it."""


class Spawned(NamedTuple):
    """A process just started."""

    process_id: int
    process_fd: int
    """A pidfd: readable as soon as the process has ended."""
    link_end: socket.socket
    """The supervisor's end of the link."""


def spawn_worker(command: Sequence[str] = WORKER_COMMAND) -> Spawned:
    """Start a worker and return at once.

    Args:
        command: program and arguments, to which `--link FD` is added.

    Raises:
        OSError: no process or descriptor is left, or the program does not exist.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        theirs.set_inheritable(True)
        process_id = os.posix_spawn(
            command[0],
            [*command, "--link", str(theirs.fileno())],
            os.environ,
            setpgroup=0,
            setsigmask=(),
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return Spawned(process_id, os.pidfd_open(process_id), ours)
