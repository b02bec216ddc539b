"""The only place that opens, reads, writes, syncs, renames and unlinks files.

Everything in storage/ is given a `Files` and reaches the disk through it, so that tests can record every
write and replay every crash (tests/support/faulty_files.py). Paths are relative to the root, "/" between
parts.

Nothing is durable before a sync: bytes of a file after `File.fdatasync`, names (created, renamed, unlinked)
after `Files.sync_directory` of the directory that holds them. Every method raises OSError as the system gave
it; the callers turn it into storage.errors with the path and offset.
"""

import os
from typing import Protocol


class File(Protocol):
    """One open file, positioned by offset only."""

    @property
    def direct_fd(self) -> int:
        """A descriptor that compiled code may pread, pwrite and fdatasync itself, or -1: go through the
        methods."""

    def pread(self, size: int, offset: int) -> bytes:
        """Read up to `size` bytes at `offset`; fewer only at the end of the file."""

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> int:
        """Write at `offset` and return how many bytes were written, which may be fewer than given."""

    def fdatasync(self) -> None:
        """Return when every byte written so far is on stable storage."""

    def size(self) -> int:
        """Return the length in bytes."""

    def close(self) -> None:
        """Close it; calling it again does nothing."""


class Files(Protocol):
    """A directory tree that the storage engine owns."""

    def open(self, path: str, *, create: bool = False) -> File:
        """Open for reading and writing.

        Raises:
            FileNotFoundError: it does not exist and `create` is false, or its directory does not exist.
        """

    def open_for_reading(self, path: str) -> File:
        """Open for reading alone."""

    def rename(self, source: str, target: str) -> None:
        """Give a file or directory another name, replacing a file of that name."""

    def unlink(self, path: str) -> None:
        """Remove a file's name."""

    def remove_directory(self, path: str) -> None:
        """Remove an empty directory."""

    def make_directory(self, path: str) -> None:
        """Make a directory and its parents; one that is there already is fine."""

    def sync_directory(self, path: str) -> None:
        """Return when the names in this directory are on stable storage."""

    def list(self, path: str) -> list[str]:
        """Return the names in a directory, sorted; [] when the directory does not exist."""

    def is_directory(self, path: str) -> bool:
        """Tell whether the path names a directory."""


class RealFile:
    """A file of the operating system."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def direct_fd(self) -> int:
        return self._fd

    def pread(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> int:
        return os.pwrite(self._fd, data, offset)

    def fdatasync(self) -> None:
        os.fdatasync(self._fd)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


class RealFiles:
    """The tree below one directory of the operating system."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Use `root`, which must exist."""
        self.root = os.fspath(root)

    def _path(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def open(self, path: str, *, create: bool = False) -> File:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return RealFile(os.open(self._path(path), flags, 0o640))

    def open_for_reading(self, path: str) -> File:
        return RealFile(os.open(self._path(path), os.O_RDONLY | os.O_CLOEXEC))

    def rename(self, source: str, target: str) -> None:
        os.rename(self._path(source), self._path(target))

    def unlink(self, path: str) -> None:
        os.unlink(self._path(path))

    def remove_directory(self, path: str) -> None:
        os.rmdir(self._path(path))

    def make_directory(self, path: str) -> None:
        os.makedirs(self._path(path), mode=0o750, exist_ok=True)

    def sync_directory(self, path: str) -> None:
        fd = os.open(self._path(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def list(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self._path(path)))
        except FileNotFoundError:
            return []

    def is_directory(self, path: str) -> bool:
        return os.path.isdir(self._path(path))


def write_all(file: File, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`, going on after short writes.

    Raises:
        OSError: from the file; how much was written is then unknown.
    """
    view = memoryview(data)
    while view:
        written = file.pwrite(view, offset)
        if written <= 0:
            raise OSError(5, "the file took no bytes")
        view = view[written:]
        offset += written


def read_all(file: File, offset: int = 0) -> bytes:
    """Read from `offset` to the end of the file.

    Raises:
        OSError: from the file.
    """
    parts = []
    remaining = file.size() - offset
    while remaining > 0:
        part = file.pread(remaining, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        remaining -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


class FilesBelow:
    """The tree below one directory of another Files."""

    def __init__(self, files: Files, directory: str) -> None:
        """Use `directory` of `files`, which must exist."""
        self._files = files
        self._directory = directory

    def _path(self, path: str) -> str:
        return f"{self._directory}/{path}" if path else self._directory

    def open(self, path: str, *, create: bool = False) -> File:
        return self._files.open(self._path(path), create=create)

    def open_for_reading(self, path: str) -> File:
        return self._files.open_for_reading(self._path(path))

    def rename(self, source: str, target: str) -> None:
        self._files.rename(self._path(source), self._path(target))

    def unlink(self, path: str) -> None:
        self._files.unlink(self._path(path))

    def remove_directory(self, path: str) -> None:
        self._files.remove_directory(self._path(path))

    def make_directory(self, path: str) -> None:
        self._files.make_directory(self._path(path))

    def sync_directory(self, path: str) -> None:
        self._files.sync_directory(self._path(path))

    def list(self, path: str) -> list[str]:
        return self._files.list(self._path(path))

    def is_directory(self, path: str) -> bool:
        return self._files.is_directory(self._path(path))
