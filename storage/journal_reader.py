"""Read the journal after a crash: which bytes belong where. journal.pyx draws the format.

Files are read in the order of their positions. A frame that passes its checks counts whole. One that does
not and has a
valid frame behind it was acknowledged and then damaged: its entries count one by one, those whose header
passes. One
that does not and has none behind it is the torn end of a commit that nobody was told of: it counts for
nothing.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from storage.errors import FileDamaged
from storage.files import File, Files, read_all
from storage.journal import FIRST_PAGE_BYTES, REMOVE_ENTRY, SPARE, WRITE_ENTRY
from storage.record import checksum, checksum_between

PAGE = 4096
FRAME = struct.Struct("<8sQIIII")
ENTRY = struct.Struct("<IIQIHBB")
FIRST_PAGE = struct.Struct("<8sQQQHHI")


@dataclass(slots=True)
class JournalFile:
    """One journal file: the position of its first byte, its size in bytes, and its contents."""

    path: str
    start: int
    capacity: int
    data: bytes


@dataclass(slots=True)
class Entry:
    """One entry: `data` is to be at `offset` of `path`, or the path is gone (`is_removal`)."""

    position: int
    path: str
    offset: int
    data: memoryview
    is_removal: bool


@dataclass(slots=True)
class JournalContents:
    """What a journal says.

    Attributes:
        entries: in order. end: position behind the last valid frame.
        torn: (path, offset in it, position) of the end that may hold a torn frame; None: no journal file.
        damage: what was damaged, in words. spares: (path, bytes) of files that hold nothing. unreadable:
            paths of files that are not journal files.
    """

    files: list[JournalFile]
    entries: list[Entry]
    end: int
    torn: tuple[str, int, int] | None
    damage: list[str] = field(default_factory=list)
    spares: list[tuple[str, int]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def read_first_page(path: str, data: bytes) -> tuple[int, int, int, bool]:
    """Return (start, capacity, position below which nothing is needed, whether it is a spare) of a journal
    file.

    Raises:
        FileDamaged: it is no journal file.
    """
    if len(data) < FIRST_PAGE_BYTES:
        raise FileDamaged(f"{path}: {len(data)} bytes, the first page has {FIRST_PAGE_BYTES}")
    magic, start, capacity, released, version, use, crc = FIRST_PAGE.unpack_from(data)
    if magic != b"MIDGEJNL" or checksum(data[:36]) != crc or version != 1:
        raise FileDamaged(f"{path}: the first page does not pass its checks")
    return start, capacity, released, use == SPARE


@dataclass(slots=True)
class Frame:
    """A frame's place in a file; `is_whole`: the body passes its check too."""

    offset: int
    position: int
    body_bytes: int
    is_whole: bool

    @property
    def padded_bytes(self) -> int:
        """How far the next frame lies."""
        return -(-(FRAME.size + self.body_bytes) // PAGE) * PAGE


def frame_at(file: JournalFile, offset: int) -> Frame | None:
    """Return the frame whose header passes its checks at `offset`, or None."""
    data = file.data
    if offset + FRAME.size > len(data):
        return None
    magic, position, body_bytes, _, body_crc, header_crc = FRAME.unpack_from(data, offset)
    if (
        magic != b"MIDGEFRM"
        or position != file.start + offset
        or checksum(data[offset : offset + 28]) != header_crc
    ):
        return None
    body_at = offset + FRAME.size
    is_whole = (
        body_at + body_bytes <= len(data)
        and checksum_between(data, body_at, body_at + body_bytes, position & 0xFFFFFFFF) == body_crc
    )
    return Frame(offset, position, body_bytes, is_whole)


def frames_of(file: JournalFile, damage: list[str]) -> Iterator[Frame]:
    """Yield the frames of a file; pages without one count as a damaged frame as long as another follows."""
    offset = FIRST_PAGE_BYTES
    while offset < len(file.data):
        frame = frame_at(file, offset)
        if frame is None:
            following = next_frame(file, offset + PAGE)
            if following is None:
                return
            damage.append(f"{file.path}: no frame from {offset} to {following}")
            frame = Frame(offset, file.start + offset, following - offset - FRAME.size, False)
        yield frame
        offset += frame.padded_bytes


def next_frame(file: JournalFile, offset: int) -> int | None:
    """Return the offset of the next frame at or after `offset`, or None."""
    while (offset := file.data.find(b"MIDGEFRM", offset)) >= 0:
        if offset % PAGE == 0 and frame_at(file, offset) is not None:
            return offset
        offset += 1
    return None


@dataclass(slots=True)
class EntryHead:
    """One copy of an entry's header that passes its check, and where the entry's data lies."""

    path: str
    offset: int
    kind: int
    data_at: int
    end: int


def entry_head(data: bytes, at: int, end: int, position: int) -> EntryHead | None:
    """Return the entry of the frame at `position` whose header (either copy) lies at `at`, or None."""
    if at + ENTRY.size > end:
        return None
    length, crc, offset, data_bytes, path_bytes, kind, copy = ENTRY.unpack_from(data, at)
    head = ENTRY.size + path_bytes
    if length != 2 * head + data_bytes or copy > 1 or not WRITE_ENTRY <= kind <= REMOVE_ENTRY:
        return None
    data_at = at + (2 - copy) * head
    if data_at + data_bytes > end or checksum(data[at + 8 : at + head], position & 0xFFFFFFFF) != crc:
        return None
    path = data[at + ENTRY.size : at + head].decode("utf-8", "replace")
    return EntryHead(path, offset, kind, data_at, data_at + data_bytes)


def entries_of(file: JournalFile, frame: Frame, damage: list[str]) -> Iterator[Entry]:
    """Yield the entries of a frame of which at least one header passes its checks."""
    data, view = file.data, memoryview(file.data)
    at = frame.offset + FRAME.size
    end = min(at + frame.body_bytes, len(data))
    while at + ENTRY.size <= end:
        head = entry_head(data, at, end, frame.position)
        if head is None:
            if frame.is_whole or data[at:end].strip(b"\0"):
                damage.append(f"{file.path}: entry at {at} does not pass its checks")
            at += 1
            while at < end and (head := entry_head(data, at, end, frame.position)) is None:
                at += 1
            if head is None:
                return
        content = view[head.data_at : head.end]
        yield Entry(frame.position, head.path, head.offset, content, head.kind == REMOVE_ENTRY)
        at = head.end


def load_files(files: Files, directory: str, contents: JournalContents) -> None:
    """Read every journal file, oldest position first; what is none is listed as unreadable.

    Those that end below what any of them says is not needed count as spares: their mark was lost.
    """
    released = 0
    for name in files.list(directory):
        path = f"{directory}/{name}"
        file = files.open_for_reading(path)
        try:
            spare = spare_positions(file)
            if spare is not None:
                contents.spares.append((path, file.size()))
                contents.end = max(contents.end, spare[0])
                released = max(released, spare[1])
                continue
            data = read_all(file)
        finally:
            file.close()
        if not data[:FIRST_PAGE_BYTES].strip(b"\0") and b"MIDGEFRM" not in data:
            # A crash came while it was being prepared: nothing has been written into it yet.
            contents.spares.append((path, len(data)))
            continue
        try:
            start, capacity, below, _ = read_first_page(path, data)
            released = max(released, below)
        except FileDamaged as error:
            salvaged = start_from_frames(data)
            if salvaged is None:
                contents.damage.append(str(error))
                contents.unreadable.append(path)
                continue
            contents.damage.append(str(error))
            start, capacity = salvaged, len(data)
        contents.files.append(JournalFile(path, start, capacity, data))
    needed = [file for file in contents.files if file.start + file.capacity > released]
    contents.spares.extend((file.path, len(file.data)) for file in contents.files if file not in needed)
    contents.files = sorted(needed, key=lambda file: file.start)
    contents.end = max(contents.end, released)


def spare_positions(file: File) -> tuple[int, int] | None:
    """Return (where the journal was when this file became a spare, below what nothing was needed); None: it
    is none."""
    try:
        start, _, released, is_spare = read_first_page("", file.pread(FIRST_PAGE_BYTES, 0))
    except FileDamaged:
        return None
    return (start, released) if is_spare else None


def start_from_frames(data: bytes) -> int | None:
    """Return the position of a file's first byte by what its first frame says of itself, or None."""
    offset = FIRST_PAGE_BYTES
    magic = data[offset : offset + 8]
    if magic != b"MIDGEFRM":
        return None
    position = int.from_bytes(data[offset + 8 : offset + 16], "little")
    probe = JournalFile("", position - offset, len(data), data)
    return probe.start if frame_at(probe, offset) is not None else None


def read_journal(files: Files, directory: str) -> JournalContents:
    """Read all there is in a journal directory.

    Raises:
        OSError: a file cannot be read.
    """
    contents = JournalContents([], [], 0, None)
    load_files(files, directory, contents)
    held: tuple[JournalFile, Frame] | None = None
    for file in contents.files:
        if held is not None and held[0].start + held[0].capacity > file.start:
            contents.damage.append(f"{file.path}: overlaps {held[0].path}")
        for frame in frames_of(file, contents.damage):
            if held is not None:
                accept(contents, *held)
            held = (file, frame)
    if held is not None:
        file, frame = held
        if frame.is_whole:
            accept(contents, file, frame)
            contents.torn = (
                file.path,
                frame.offset + frame.padded_bytes,
                frame.position + frame.padded_bytes,
            )
        else:
            contents.torn = (file.path, frame.offset, frame.position)
    elif contents.files:
        last = contents.files[-1]
        contents.torn = (last.path, FIRST_PAGE_BYTES, last.start + FIRST_PAGE_BYTES)
    if contents.files:
        last = contents.files[-1]
        end = last.start + max(last.capacity, -(-len(last.data) // PAGE) * PAGE)
        contents.end = max(contents.end, end)
    return contents


def accept(contents: JournalContents, file: JournalFile, frame: Frame) -> None:
    """Take the entries of a frame that was acknowledged."""
    if not frame.is_whole:
        contents.damage.append(f"{file.path}: frame at {frame.offset} does not pass its check")
    contents.entries.extend(entries_of(file, frame, contents.damage))
