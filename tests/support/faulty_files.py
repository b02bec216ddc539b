"""A file system in memory that remembers what was synced, and what a power cut could leave of the rest.

`RecordingFiles` is a storage.files.Files. Every operation goes into `trace`; `crash(cut, rng)` builds the
tree that a machine could find after losing power right after operation number `cut`:

- bytes written before the file's last fdatasync are there; of later ones any 512-byte sectors, in any
mixture;
- names made, changed or removed before the directory's last sync are as they were; of later changes any
subset.

Faults: `fail` maps an operation ("pwrite", "fdatasync", "pread", "open", …) to an errno, raised from then on;
`short_writes` makes pwrite take less than it was given.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

SECTOR = 512


@dataclass(slots=True)
class Node:
    """One file's bytes, whatever names it has."""

    data: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class Operation:
    """One entry of the trace."""

    kind: str
    path: str = ""
    node: Node | None = None
    offset: int = 0
    data: bytes = b""
    target: str = ""


class RecordingFile:
    """An open file of RecordingFiles."""

    direct_fd = -1

    def __init__(self, files: "RecordingFiles", node: Node) -> None:
        self._files = files
        self._node = node

    def pread(self, size: int, offset: int) -> bytes:
        self._files.check("pread")
        return bytes(self._node.data[offset : offset + size])

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> int:
        files = self._files
        files.check("pwrite")
        content = bytes(data)
        if files.short_writes and len(content) > 1:
            content = content[: 1 + files.rng.randrange(len(content) - 1)]
        node = self._node
        if len(node.data) < offset + len(content):
            node.data.extend(bytes(offset + len(content) - len(node.data)))
        node.data[offset : offset + len(content)] = content
        files.trace.append(Operation("pwrite", node=node, offset=offset, data=content))
        return len(content)

    def fdatasync(self) -> None:
        self._files.check("fdatasync")
        self._files.trace.append(Operation("fdatasync", node=self._node))

    def size(self) -> int:
        return len(self._node.data)

    def close(self) -> None:
        """Nothing is held."""


class RecordingFiles:
    """A directory tree in memory with a trace."""

    def __init__(self, tree: dict[str, bytes] | None = None, *, directories: set[str] | None = None) -> None:
        self.names: dict[str, Node] = {path: Node(bytearray(data)) for path, data in (tree or {}).items()}
        self.directories: set[str] = {""} | (directories or set())
        self.trace: list[Operation] = []
        self.fail: dict[str, int] = {}
        self.short_writes = False
        self.rng = Random(0)
        self._base = ({path: bytes(node.data) for path, node in self.names.items()}, set(self.directories))
        self._base_nodes = dict(self.names)

    def check(self, operation: str) -> None:
        """Raise the OSError that is planned for an operation, if one is."""
        if operation in self.fail:
            raise OSError(self.fail[operation], os.strerror(self.fail[operation]))

    def open(self, path: str, *, create: bool = False) -> RecordingFile:
        self.check("open")
        if path not in self.names:
            if not create or _parent(path) not in self.directories:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            self.names[path] = Node()
            self.trace.append(Operation("create", path=path, node=self.names[path]))
        return RecordingFile(self, self.names[path])

    def open_for_reading(self, path: str) -> RecordingFile:
        self.check("open")
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return RecordingFile(self, self.names[path])

    def rename(self, source: str, target: str) -> None:
        self.check("rename")
        if source in self.directories:
            self.directories.remove(source)
            self.directories.add(target)
        for path in [path for path in self.names if path == source or path.startswith(source + "/")]:
            self.names[target + path[len(source) :]] = self.names.pop(path)
        self.trace.append(Operation("rename", path=source, target=target))

    def unlink(self, path: str) -> None:
        self.check("unlink")
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        del self.names[path]
        self.trace.append(Operation("unlink", path=path))

    def remove_directory(self, path: str) -> None:
        if any(_parent(name) == path for name in self.names):
            raise OSError(errno.ENOTEMPTY, "not empty", path)
        self.directories.discard(path)
        self.trace.append(Operation("rmdir", path=path))

    def make_directory(self, path: str) -> None:
        self.check("make_directory")
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            one = "/".join(parts[:count])
            if one not in self.directories:
                self.directories.add(one)
                self.trace.append(Operation("mkdir", path=one))

    def sync_directory(self, path: str) -> None:
        self.check("sync_directory")
        self.trace.append(Operation("sync_directory", path=path))

    def list(self, path: str) -> list[str]:
        inside = [name for name in (*self.names, *self.directories) if name and _parent(name) == path]
        return sorted(name.rsplit("/", 1)[-1] for name in inside)

    def is_directory(self, path: str) -> bool:
        return path in self.directories

    def tree(self) -> dict[str, bytes]:
        """Return every file's bytes as they are now."""
        return {path: bytes(node.data) for path, node in self.names.items()}

    def killed(self, cut: int) -> "RecordingFiles":
        """Return the tree as it was after the first `cut` operations: what a killed process leaves."""
        return self._after((operation, None) for operation in self.trace[:cut])

    def crash(self, cut: int, rng: Random) -> "RecordingFiles":
        """Return the tree that a power cut after the first `cut` operations could leave."""
        return self._after(_surviving(self.trace[:cut], rng))

    def _after(self, survivors: Iterable[tuple[Operation, Callable[[int], bool] | None]]) -> "RecordingFiles":
        contents = {id(node): bytearray(self._base[0][path]) for path, node in self._base_nodes.items()}
        names = dict(self._base_nodes)
        directories = set(self._base[1])
        for operation, part in survivors:
            _apply(operation, part, contents, names, directories)
        tree = {
            path: bytes(contents.get(id(node), b""))
            for path, node in names.items()
            if _parent(path) in directories
        }
        return RecordingFiles(tree, directories=directories)


def _parent(path: str) -> str:
    return path.rsplit("/", 1)[0] if "/" in path else ""


def _surviving(
    trace: list[Operation], rng: Random
) -> Iterator[tuple[Operation, Callable[[int], bool] | None]]:
    """Yield the operations that survive, in order; for an unsynced write with a function that says which
    sectors."""
    synced_data: dict[int, int] = {}
    synced_names: dict[str, int] = {}
    for index, operation in enumerate(trace):
        if operation.kind == "fdatasync":
            synced_data[id(operation.node)] = index
        elif operation.kind == "sync_directory":
            synced_names[operation.path] = index
    # One cut loses much, another little: both kinds of trouble are looked for.
    keep = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    for index, operation in enumerate(trace):
        if operation.kind == "pwrite":
            if index < synced_data.get(id(operation.node), -1):
                yield operation, None
            elif rng.random() < 0.5:
                if rng.random() < keep:
                    yield operation, None
            else:
                seed = rng.getrandbits(64)
                yield operation, lambda sector, seed=seed: Random(seed ^ sector).random() < keep
        elif operation.kind in ("create", "unlink", "mkdir", "rmdir"):
            if index < synced_names.get(_parent(operation.path), -1) or rng.random() < keep:
                yield operation, None
        elif operation.kind == "rename":
            synced = max(
                synced_names.get(_parent(operation.path), -1), synced_names.get(_parent(operation.target), -1)
            )
            if index < synced or rng.random() < keep:
                yield operation, None


def _apply(
    operation: Operation,
    part: Callable[[int], bool] | None,
    contents: dict[int, bytearray],
    names: dict[str, Node],
    directories: set[str],
) -> None:
    if operation.kind == "pwrite":
        data = contents.setdefault(id(operation.node), bytearray())
        end = operation.offset + len(operation.data)
        if len(data) < end:
            data.extend(bytes(end - len(data)))
        if part is None:
            data[operation.offset : end] = operation.data
            return
        for sector in range(operation.offset // SECTOR, -(-end // SECTOR)):
            if part(sector):
                start, stop = max(sector * SECTOR, operation.offset), min((sector + 1) * SECTOR, end)
                data[start:stop] = operation.data[start - operation.offset : stop - operation.offset]
    elif operation.kind == "create" and operation.node is not None:
        names[operation.path] = operation.node
    elif operation.kind == "unlink":
        names.pop(operation.path, None)
    elif operation.kind == "mkdir":
        directories.add(operation.path)
    elif operation.kind == "rmdir":
        directories.discard(operation.path)
    elif operation.kind == "rename":
        if operation.path in directories:
            directories.discard(operation.path)
            directories.add(operation.target)
        for path in [
            path for path in names if path == operation.path or path.startswith(operation.path + "/")
        ]:
            names[operation.target + path[len(operation.path) :]] = names.pop(path)
