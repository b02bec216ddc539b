"""Power cuts on a real file system: ext4 on a loop device, cut by the shutdown ioctl under load. Needs root.

Each round: a child appends and prints the last acknowledged sequence; the file system is shut down without
flushing its journal, the child killed, the device mounted again, the store opened; every acknowledged
message must be there.
"""

import argparse
import fcntl
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading

from loadtest.micro.storage_setup import print_machine
from storage.store import Store

# FS_IOC_SHUTDOWN and its mode "no log flush", from linux/fs.h and the file systems that define it.
SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
IMAGE_BYTES = 2 << 30


def append_for_ever(directory: str) -> None:
    """Append to two streams and print what is acknowledged, until somebody ends it."""
    store = Store(directory)
    streams = [
        store.streams[name] if name in store.streams else store.create_stream(name) for name in ("a", "b")
    ]
    while True:
        for index, one in enumerate(streams):
            for _ in range(50 + 150 * index):
                sequence = one.stream.last_sequence + 1
                one.stream.append(b"s.%d" % (sequence % 7), b"", b"%d" % sequence * 9, sequence)
        store.wait(store.commit())
        print(*(one.stream.last_sequence for one in streams), flush=True)


def one_round(device: str, mount: str) -> tuple[int, int]:
    """Run under load, cut, and return the last acknowledged sequences."""
    subprocess.run(["mount", device, mount], check=True)
    os.makedirs(f"{mount}/store", exist_ok=True)
    command = [sys.executable, "-m", "loadtest.micro.storage_powercut", "--fill", f"{mount}/store"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
    acknowledged = (0, 0)
    enough = threading.Event()

    def listen() -> None:
        nonlocal acknowledged
        assert child.stdout is not None
        for count, line in enumerate(child.stdout):
            first, second = line.split()
            acknowledged = (int(first), int(second))
            if count == 400:
                enough.set()
        enough.set()

    listener = threading.Thread(target=listen)
    listener.start()
    enough.wait(60)
    fd = os.open(mount, os.O_RDONLY)
    fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    os.close(fd)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    listener.join()
    subprocess.run(["umount", mount], check=True)
    return acknowledged


def verify(device: str, mount: str, acknowledged: tuple[int, int]) -> None:
    """Mount again and look for every acknowledged message."""
    subprocess.run(["mount", device, mount], check=True)
    store = Store(f"{mount}/store")
    for name, last in zip(("a", "b"), acknowledged, strict=True):
        stream = store.streams[name].stream
        assert stream.last_sequence >= last, f"{name}: {stream.last_sequence} of {last}"
        for message in stream.read(1, last):
            assert message.payload == b"%d" % message.sequence * 9, f"{name}: message {message.sequence}"
        assert stream.messages == stream.last_sequence
        assert stream.state().lost == ()
    store.close()
    subprocess.run(["umount", mount], check=True)


def main() -> None:
    """Run the rounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fill")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    if arguments.fill:
        append_for_ever(arguments.fill)
    print_machine("power cuts on ext4")
    with tempfile.TemporaryDirectory() as work:
        image, mount = f"{work}/image", f"{work}/mount"
        os.mkdir(mount)
        with open(image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        attach = subprocess.run(
            ["losetup", "--find", "--show", image], check=True, capture_output=True, text=True
        )
        device = attach.stdout.strip()
        try:
            for index in range(arguments.rounds):
                acknowledged = one_round(device, mount)
                verify(device, mount, acknowledged)
                print(f"round {index + 1}: acknowledged {acknowledged}, all there", flush=True)
        finally:
            subprocess.run(["losetup", "--detach", device], check=False)


if __name__ == "__main__":
    main()
