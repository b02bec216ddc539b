"""The store directory of JetStream: made or refused, locked, measured, and said in the log.

What lies in it is the workers' business: worker i keeps its streams below worker-<i>. As nats-server does,
everything is in a folder `jetstream` of the directory that the operator names.

Two locks on one file keep two brokers from one store. A record lock is this process's alone: whoever holds it
is a living supervisor, so there is nothing to wait for. The other lock belongs to the open file, which every
worker inherits without knowing: while it is held, a worker of a supervisor that was killed may still write.
Workers end by themselves then, so a new broker waits for them.
"""

from __future__ import annotations

import fcntl
import math
import os
import tempfile
import time
from dataclasses import replace

from supervisor.config import ServerConfig
from supervisor.errors import StartError
from supervisor.placement import owner_table
from workers.info import API_LEVEL
from workers.log import Log

FOLDER = "jetstream"
DIRECTORY_MODE = 0o700
# Its name is no name of a worker's folder, and nats-server would not take it for an account either.
LOCK_NAME = "midge.lock"
LOCK_MODE = 0o600
# What a worker may need to end when its supervisor is gone: a sync of what it was writing.
LOCK_WAIT_SECONDS_MAX = 30.0
LOCK_POLL_SECONDS = 0.01
# nats-server's folder of the account that everybody is in without accounts.
NATS_SERVER_FOLDER = "$G"


def prepare(config: ServerConfig, log: Log) -> ServerConfig:
    """Make the store directory ready for workers, and return the settings with what was found out.

    The lock is held from here until this process and every worker spawned after this have ended.

    Raises:
        StartError: there can be no store in that directory.
    """
    directory = os.path.join(config.store_dir or os.path.join(tempfile.gettempdir(), "nats"), FOLDER)
    directory = os.path.abspath(directory)
    _make_directory(directory)
    _lock(directory, log)
    if not config.store_dir:
        log.warning("Temporary storage directory used, data could be lost on system reboot")
    if os.path.isdir(os.path.join(directory, NATS_SERVER_FOLDER)):
        log.warning(f'Streams of nats-server in "{directory}" are not read: back them up there, restore here')
    return replace(
        config,
        store_dir=directory,
        js_max_memory=memory_max(),
        js_max_file=file_max(directory),
    )


def settle(config: ServerConfig, log: Log) -> None:
    """Have every stream where its worker will look for it: there may be more or fewer workers than before.

    Raises:
        StartError: a stream could not be moved; the next start goes on from there.
    """
    # Not at the top: workers are booting meanwhile, so this costs the start nothing.
    from storage.errors import StorageError
    from storage.relocation import relocate
    from workers.jetstream.log_bridge import hear_others
    from workers.jetstream.ownership import Ownership

    hear_others(log)
    ownership = Ownership(owner_table(config.worker_count))

    def owner_of(name: str) -> int:
        account, _, stream = name.rpartition("/")
        return ownership.owner(account, stream)

    try:
        done = relocate(config.store_dir, config.worker_count, owner_of)
    except (StorageError, OSError) as error:
        raise _refused(f"streams could not be brought to their workers: {error}") from error
    for text in done:
        log.info(f"JetStream: {text}")


def log_start(config: ServerConfig, log: Log) -> None:
    """Log the settings in the words that launchers of nats-server look for."""
    log.info("Starting JetStream")
    log.info("---------------- JETSTREAM ----------------")
    log.info(f"  Strict:          {str(config.js_strict).lower()}")
    log.info(f"  Max Memory:      {friendly_bytes(config.js_max_memory)}")
    log.info(f"  Max Storage:     {friendly_bytes(config.js_max_file)}")
    log.info(f'  Store Directory: "{config.store_dir}"')
    if config.js_domain:
        log.info(f"  Domain:          {config.js_domain}")
    log.info(f"  API Level:       {API_LEVEL}")
    log.info("-------------------------------------------")


def memory_max() -> int:
    """Return the bytes that memory streams may take: three quarters of the host's, as with nats-server."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4 * 3


def file_max(directory: str) -> int:
    """Return the bytes that file streams may take: three quarters of what is free now."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize // 4 * 3


def friendly_bytes(size: int) -> str:
    """Return a size as nats-server logs it, such as 17.66 GB (of 1024 MB each)."""
    if size < 1024:
        return f"{size} B"
    power = int(math.log(size) / math.log(1024))
    return f"{size / 1024**power:.2f} {'KMGTPE'[power - 1]}B"


def _make_directory(directory: str) -> None:
    try:
        os.makedirs(directory, DIRECTORY_MODE, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise _refused("storage directory is not a directory") from error
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise _refused(f"could not create storage directory - mkdir {error.filename}: {reason}") from error
    # Not os.access: it knows nothing of a file system that is full or broken.
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise _refused("storage directory is not writable") from error


def _lock(directory: str, log: Log) -> None:
    path = os.path.join(directory, LOCK_NAME)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, LOCK_MODE)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise _refused(f'storage directory "{directory}" is in use by another midge') from error
    deadline = time.monotonic() + LOCK_WAIT_SECONDS_MAX
    is_told = False
    while not _try_flock(descriptor):
        if not is_told:
            log.warning(f'Waiting for workers of a midge that is gone to leave "{directory}"')
            is_told = True
        if time.monotonic() > deadline:
            os.close(descriptor)
            raise _refused(f'storage directory "{directory}" is in use by workers of a midge that is gone')
        time.sleep(LOCK_POLL_SECONDS)
    # Never closed: the kernel does it when the last process that inherited it has ended.
    os.set_inheritable(descriptor, True)


def _try_flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refused(reason: str) -> StartError:
    return StartError(f"Can't start JetStream: {reason}")
