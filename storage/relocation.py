"""Bring every stream to the store of the worker that owns it, before any worker runs.

    <base>/placement           for how many workers the stores are, and by which rule; absent: not settled
           worker-0/ …         one store each

A start with the same workers reads `placement` and does nothing else. After a change, in this order:

1. *unsettle*: remove `placement`, so that a crash from here on does all of this again.
2. *rest*: open and close every store, so that its journal holds nothing; then remove the journal's files. Old
   frames speak of streams by directory: none may be found once directories change hands.
3. *move*: rename stream directories, one by one, to the next free number of their owner's store. Nothing in
   a stream's files depends on where they lie: the seeds of their CRCs are made of salts and offsets, and a
   store begins its journal above every position that a checkpoint names.
4. *remove* the stores of workers that are no more; what they had set aside goes to worker 0.
5. *settle*: write `placement`.

Every step can be cut anywhere and done again: a rename is there or not, and each name is synced before the
next step relies on it.
"""

import logging
import os
from collections.abc import Callable

from storage.errors import KeyRequired, StorageError
from storage.files import Files, FilesBelow, RealFiles, read_all, write_all
from storage.record import checksum
from storage.store import Store, StoreConfig

logger = logging.getLogger("storage")

PLACEMENT = "placement"
PREFIX = "worker-"
# Names whose owners stand for the rule: a rule that moves streams moves one of so many almost surely.
PROBES = tuple(f"probe/{index}" for index in range(64))


def relocate(
    base: str | os.PathLike[str],
    worker_count: int,
    owner_of: Callable[[str], int],
    *,
    key: bytes | None = None,
) -> list[str]:
    """Have every stream below `base` in the store of its owner.

    Args:
        base: an existing directory; worker i has its store in `worker-<i>` below it.
        owner_of: worker (0 .. worker_count - 1) of a stream, by the name it has in its store.
        key: of encrypted streams, see StoreConfig.

    Returns:
        What was done, in words; nothing when all was in place.

    Raises:
        KeyRequired: streams that may have to move are encrypted, and the key is missing or another.
        StorageError, OSError: something could not be read or written; running it again goes on from there.
    """
    config = StoreConfig(key=key)
    return Relocation(
        RealFiles(base), worker_count, owner_of, lambda files: Store(files, config=config)
    ).run()


class Relocation:
    """One bringing of streams to their owners."""

    def __init__(
        self,
        files: Files,
        worker_count: int,
        owner_of: Callable[[str], int],
        open_store: Callable[[Files], Store],
    ) -> None:
        self._files = files
        self._worker_count = worker_count
        self._owner_of = owner_of
        self._open_store = open_store
        self._done: list[str] = []

    def run(self) -> list[str]:
        """Do what is to be done, and return it in words."""
        wanted = self._placement()
        if self._read_placement() == wanted:
            return []
        self._unsettle()
        self._make_stores()
        # All are at rest before the first stream moves.
        streams = {worker: self._bring_to_rest(worker) for worker in self._workers()}
        for worker, held in streams.items():
            for path, name in sorted(held.items()):
                if self._owner_of(name) != worker:
                    self._move(worker, path, name)
        for worker in self._workers():
            if worker >= self._worker_count:
                self._remove(worker)
        self._settle(wanted)
        return self._done

    def _say(self, text: str) -> None:
        logger.info("relocation what=%r", text)
        self._done.append(text)

    # Whether there is anything to do.

    def _placement(self) -> bytes:
        owners = b"".join(self._owner_of(probe).to_bytes(4, "little") for probe in PROBES)
        return b"version 1 workers %d rule %08x\n" % (self._worker_count, checksum(owners))

    def _read_placement(self) -> bytes:
        try:
            file = self._files.open_for_reading(PLACEMENT)
        except FileNotFoundError:
            return b""
        try:
            return read_all(file)
        finally:
            file.close()

    def _unsettle(self) -> None:
        try:
            self._files.unlink(PLACEMENT)
        except FileNotFoundError:
            return
        self._files.sync_directory("")

    def _settle(self, placement: bytes) -> None:
        if f"{PLACEMENT}.new" in self._files.list(""):
            self._files.unlink(f"{PLACEMENT}.new")
        file = self._files.open(f"{PLACEMENT}.new", create=True)
        write_all(file, placement, 0)
        file.fdatasync()
        file.close()
        self._files.rename(f"{PLACEMENT}.new", PLACEMENT)
        self._files.sync_directory("")

    # Stores.

    def _workers(self) -> list[int]:
        """Return the numbers of the stores on disk."""
        names = [name.removeprefix(PREFIX) for name in self._files.list("") if name.startswith(PREFIX)]
        return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))

    def _make_stores(self) -> None:
        for worker in range(self._worker_count):
            self._files.make_directory(f"{PREFIX}{worker}/streams")
            self._files.sync_directory(f"{PREFIX}{worker}")
        self._files.sync_directory("")

    def _bring_to_rest(self, worker: int) -> dict[str, str]:
        """Recover a store, close it with nothing left in its journal, and return its streams by directory."""
        directory = f"{PREFIX}{worker}"
        store = self._open_store(FilesBelow(self._files, directory))
        try:
            if store.locked:
                raise KeyRequired(f"{directory}: {', '.join(store.locked.values())}")
            held = {one.path: one.name for one in store.streams.values()}
        finally:
            store.close()
        if not store.is_at_rest:
            raise StorageError(f"{directory}: not everything in its journal could be written to its streams")
        journal = f"{directory}/journal"
        for name in self._files.list(journal):
            self._files.unlink(f"{journal}/{name}")
        self._files.sync_directory(journal)
        if held:
            self._say(f"{directory}: {len(held)} streams brought to rest")
        return held

    def _move(self, worker: int, path: str, name: str) -> None:
        """Give a stream's directory to the store of its owner."""
        owner = self._owner_of(name)
        source, target = f"{PREFIX}{worker}", f"{PREFIX}{owner}"
        numbers = [int(one, 16) for one in self._files.list(f"{target}/streams") if is_number(one)]
        place = f"streams/{max(numbers, default=0) + 1:08x}"
        self._files.rename(f"{source}/{path}", f"{target}/{place}")
        self._files.sync_directory(f"{target}/streams")
        self._files.sync_directory(f"{source}/streams")
        self._say(f"{name}: from {source}/{path} to {target}/{place}")

    def _remove(self, worker: int) -> None:
        """Remove the store of a worker that is no more; it holds no streams."""
        directory = f"{PREFIX}{worker}"
        self._keep_aside(directory)
        for part in ("journal", "streams", "aside"):
            if self._files.is_directory(f"{directory}/{part}"):
                self._files.remove_directory(f"{directory}/{part}")
        if self._files.list(directory):
            self._say(f"{directory}: left where it is, something else lies in it")
            return
        self._files.remove_directory(directory)
        self._files.sync_directory("")
        self._say(f"{directory}: removed")

    def _keep_aside(self, directory: str) -> None:
        """Move what recoveries set aside to worker 0: it is never deleted."""
        names = self._files.list(f"{directory}/aside")
        target = f"{PREFIX}0/aside"
        taken = set(self._files.list(target))
        for name in names:
            count = 0
            while (place := f"{directory}-{name}.{count}") in taken:
                count += 1
            self._files.rename(f"{directory}/aside/{name}", f"{target}/{place}")
        if names:
            self._files.sync_directory(target)
            self._files.sync_directory(f"{directory}/aside")


def is_number(name: str) -> bool:
    """Tell whether a name is that of a stream's directory."""
    return len(name) == 8 and all(digit in "0123456789abcdef" for digit in name)
