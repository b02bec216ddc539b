"""`midge serve` with stub workers, as a program: for tests of the supervisor that need no data plane."""

import sys
from pathlib import Path

from supervisor import config, flags, start

STUB_COMMAND = (sys.executable, str(Path(__file__).with_name("stub_worker.py")))

if __name__ == "__main__":
    sys.exit(start.serve(config.from_flags(flags.parse(sys.argv[1:])), STUB_COMMAND))
