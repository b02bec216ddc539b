"""Start a worker: python -m workers [--preload-jetstream] --link DESCRIPTOR."""

import importlib
import sys

from workers.worker import main

if __name__ == "__main__":
    if "--preload-jetstream" in sys.argv:
        # Boot time that would else begin when the first message has come.
        importlib.import_module("workers.jetstream.engine")
    main(int(sys.argv[sys.argv.index("--link") + 1]))
