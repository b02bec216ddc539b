"""Start a worker: python -m workers --link DESCRIPTOR."""

import sys

from workers.worker import main

if __name__ == "__main__":
    main(int(sys.argv[sys.argv.index("--link") + 1]))
