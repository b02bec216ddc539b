"""What can go wrong in storage/, as exceptions. One base class; `errno` becomes an exception here alone.

Expected outcomes (no such sequence, a limit refuses a message) are return values, never these.
"""

import errno


class StorageError(Exception):
    """The base of every error that storage/ raises on purpose."""


class ReadFailed(StorageError):
    """The machine could not read bytes that should be there (EIO and the like).

    The message names the path and the offset in bytes.
    """


class WriteFailed(StorageError):
    """A write or a sync failed; nothing of that commit is acknowledged and the store refuses writes from now
    on."""


class StorageFull(WriteFailed):
    """A write failed because the disk or the quota is full (ENOSPC, EDQUOT, EFBIG)."""


class RecordDamaged(StorageError):
    """One record does not pass its checks; it is counted in `lost` and its neighbours are untouched."""


class FileDamaged(StorageError):
    """A file cannot be understood as a whole (its header is broken); it is set aside, never deleted."""


class KeyRequired(StorageError):
    """The stream is encrypted and no key, or a wrong one, was given."""


FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_error(error_number: int, what: str) -> WriteFailed:
    """Return the exception for a failed write: StorageFull for a full disk, else WriteFailed."""
    kind = StorageFull if error_number in FULL_ERRNOS else WriteFailed
    return kind(f"{what}: {errno.errorcode.get(error_number, str(error_number))}")
