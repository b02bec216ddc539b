"""Reads, filters, last by subject, purge, deletes and memory, on file streams that are warm.

The find and count figures are taken with filters that match 1 message in 10,000 of --count.
"""

import argparse
import random

from loadtest.micro.storage_setup import PAYLOAD, print_machine, resident_bytes, scratch, show, timed
from storage import queries
from storage.store import Store
from storage.stream import StreamStore
from storage.subjects import SubjectFilter
from storage.writer import trim_memory

BATCH = 4096


def fill(store: Store, name: str, subjects: list[bytes], count: int) -> StreamStore:
    """Return a new stream with `count` messages whose subjects go round."""
    stream = store.create_stream(name).stream
    total = len(subjects)
    for start in range(0, count, BATCH):
        stop = min(start + BATCH, count)
        batch = [(subjects[index % total], b"", PAYLOAD) for index in range(start, stop)]
        stream.append_batch(batch, start)
        store.commit()
        store.poll()
    store.wait(store.commit())
    store.checkpoint_all()
    while any(writer.pending for writer in store.pool):
        store.poll()
    return stream


def reads(store: Store, count: int) -> None:
    """Sequential and random reads of warm files."""
    stream = fill(store, "reads", [b"orders.%d" % index for index in range(100)], count)

    def sequential() -> None:
        start = 1
        while messages := stream.read(start, 4096):
            start = messages[-1].sequence + 1

    timed(sequential)
    show("sequential read", count / timed(sequential), "msg/s", ">= 3,000,000")
    wanted = [random.randrange(1, count + 1) for _ in range(200_000)]

    def at_random() -> None:
        get = stream.get
        for sequence in wanted:
            get(sequence)

    timed(at_random)
    show("random read by sequence", len(wanted) / timed(at_random), "msg/s", ">= 500,000")
    store.delete_stream("reads")


def filters(store: Store, count: int) -> None:
    """Find and count 1 in 10,000."""
    subjects = [b"orders.%d.new" % index for index in range(10_000)]
    trim_memory()
    base = resident_bytes()
    stream = fill(store, "filters", subjects, count)
    trim_memory()
    show("index bytes a message, columns loaded", stream.memory_bytes() / count, "bytes", "<= 40")
    show("resident bytes a message, columns loaded", (resident_bytes() - base) / count, "bytes", "<= 40")
    for segment in stream.segments[:-1]:
        if segment.has_sidecar:
            segment.drop_columns()
    show("index bytes a message, sealed and unread", stream.memory_bytes() / count, "bytes", "<= 4")
    for name, pattern in (("literal", b"orders.77.new"), ("wildcard", b"*.77.*")):
        found = SubjectFilter(stream.subjects, [pattern])
        timed(lambda found=found: queries.find_all(stream, found))
        seconds = timed(lambda found=found: queries.find_all(stream, found))
        show(
            f"find all, {name}, {len(queries.find_all(stream, found)):,} of {count:,}",
            seconds * 1000,
            "ms",
            "<= 100",
        )
        seconds = timed(lambda found=found: queries.count_pending(stream, found, count // 3))
        show(f"pending count from a third on, {name}", seconds * 1000, "ms", "<= 20")
    many = SubjectFilter(stream.subjects, [b"orders.*.new"])
    seconds = timed(lambda: queries.count_pending(stream, many, count // 3))
    show("pending count from a third on, all match by wildcard", seconds * 1000, "ms")
    store.delete_stream("filters")


def subjects(store: Store, count: int) -> None:
    """Last by subject for a million subjects, and memory per subject."""
    names = [b"$KV.bucket.key-%d" % index for index in range(count)]
    trim_memory()
    base = resident_bytes()
    stream = fill(store, "subjects", names, count)
    trim_memory()
    loaded = resident_bytes() - base
    show("table bytes a subject", stream.subjects.memory_bytes() / count, "bytes", "<= 150")
    show("resident bytes a message and its subject", loaded / count, "bytes", "<= 190")
    everything = SubjectFilter(stream.subjects, [b"$KV.bucket.>"])
    seconds = timed(lambda: queries.last_sequences(stream, everything))
    show(f"last by subject for all of {count:,} subjects", seconds * 1000, "ms", "<= 150")
    store.delete_stream("subjects")


def purges(store: Store, count: int) -> None:
    """Purge half by filter, and delete in random order."""
    stream = fill(store, "purges", [b"a.%d" % index for index in range(1000)], count)
    half = SubjectFilter(stream.subjects, [b"a.%d" % index for index in range(500)])
    seconds = timed(lambda: queries.purge(stream, half))
    show(f"purge by filter of half of {count:,}", seconds * 1000, "ms", "<= 200")
    store.wait(store.commit())
    store.delete_stream("purges")
    stream = fill(store, "deletes", [b"a.%d" % index for index in range(1000)], count)
    order = list(range(1, count + 1))
    random.shuffle(order)

    def delete() -> None:
        for sequence in order:
            stream.delete(sequence)
        store.wait(store.commit())

    show(f"deletes in random order, {count:,}, durable", count / timed(delete), "msg/s", ">= 500,000")


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000_000)
    arguments = parser.parse_args()
    small = min(arguments.count, 1_000_000)
    print_machine(f"queries, {arguments.count:,} messages of 128 B")
    with scratch() as directory:
        store = Store(directory)
        reads(store, small)
        subjects(store, small)
        purges(store, small)
        filters(store, arguments.count)
        store.close()


if __name__ == "__main__":
    main()
