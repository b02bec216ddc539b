"""Opening a store: after a clean stop and after kill -9, many messages, many subjects, many streams.

A child process fills the store and stops or is killed; the time is that of Store() in this process, files
warm.
"""

import argparse
import os
import signal
import subprocess
import sys

from loadtest.micro.storage_setup import PAYLOAD, print_machine, scratch, show, timed
from storage.store import Store

BATCH = 4096


def fill(directory: str, streams: int, subjects: int, count: int, *, stop: bool) -> None:
    """Fill a store in this process and stop it, or say that it is full and wait for the kill."""
    store = Store(directory)
    opened = [store.create_stream(f"S{index}").stream for index in range(streams)]
    each = count // streams
    for stream in opened:
        for start in range(0, each, BATCH):
            size = min(BATCH, each - start)
            batch = [(b"$KV.b.%d" % ((start + index) % subjects), b"", PAYLOAD) for index in range(size)]
            stream.append_batch(batch, start)
            if streams == 1 or start:
                store.commit()
                store.poll()
                # As a broker does: no more in flight than one frame holds.
                while store.journal.backlog_bytes > 8 << 20:
                    store.poll()
                    store.commit()
                    store.writer.wait(0.01)
    store.wait(store.commit())
    if stop:
        store.close()
        return
    print("full", flush=True)
    signal.pause()


def measure(title: str, streams: int, subjects: int, count: int, *, stop: bool, wanted: str) -> None:
    """Fill in a child, then open here."""
    with scratch() as directory:
        command = [sys.executable, "-m", "loadtest.micro.storage_restart", "--fill", directory]
        command += [str(streams), str(subjects), str(count), str(int(stop))]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        if stop:
            child.wait()
        else:
            assert child.stdout is not None
            child.stdout.readline()
            child.kill()
            child.wait()
        opened: list[Store] = []
        seconds = timed(lambda: opened.append(Store(directory)))
        show(title, seconds * 1000, "ms", wanted)
        total = sum(one.stream.messages for one in opened[0].streams.values())
        assert total == count, f"{total} of {count} messages"
        assert opened[0].reports == []
        opened[0].close()


def main() -> None:
    """Run everything, or with --fill be the child."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fill", nargs=5, metavar=("DIR", "STREAMS", "SUBJECTS", "COUNT", "STOP"))
    parser.add_argument("--count", type=int, default=10_000_000)
    arguments = parser.parse_args()
    if arguments.fill:
        directory, streams, subjects, count, stop = arguments.fill
        os.makedirs(directory, exist_ok=True)
        fill(directory, int(streams), int(subjects), int(count), stop=stop == "1")
        return
    count = arguments.count
    small = min(count, 1_000_000)
    print_machine(f"open a store of messages of 128 B, up to {count:,}")
    measure(f"{count:,} messages, after a clean stop", 1, 100, count, stop=True, wanted="<= 200")
    measure(f"{count:,} messages, after kill -9", 1, 100, count, stop=False, wanted="<= 1,000")
    measure(f"{small:,} key-value subjects, after a clean stop", 1, small, small, stop=True, wanted="<= 500")
    measure(f"{small:,} key-value subjects, after kill -9", 1, small, small, stop=False, wanted="<= 500")
    measure(
        "1,000 streams of 1,000 messages, after a clean stop", 1000, 100, small, stop=True, wanted="<= 2,000"
    )
    measure("1,000 streams of 1,000 messages, after kill -9", 1000, 100, small, stop=False, wanted="<= 2,000")


if __name__ == "__main__":
    main()
