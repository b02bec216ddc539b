"""The flags of `midge serve`: one table, and a parser that reads them as Go programs do.

Scripts written for nats-server pass `-p 4222`, `-p=4222`, `--port 4222`, `-D`, `-D=false` and mixtures of
them, so one or two dashes mean the same, a boolean never takes the next word, and the last of several equal
flags wins. The table also drives the help text. This file knows how a value is spelt, not which values make
sense together: that is config.py.

argparse is not used: it is slow to import and cannot read this style.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

Value = str | int | bool


class FlagError(Exception):
    """The command line is wrong; the text is one line for whoever typed it."""


class Flag:
    """One row of the table."""

    __slots__ = ("default", "group", "help", "kind", "name", "placeholder", "spellings")

    def __init__(
        self,
        name: str,
        spellings: str,
        kind: str,
        default: Value,
        placeholder: str,
        help: str,
        group: str,
    ) -> None:
        """Describe a flag.

        Args:
            name: its key in the result of parse.
            spellings: all names with their dashes, separated by blanks, as the help prints them.
            kind: a key of PARSERS.
        """
        self.name = name
        self.spellings = spellings.split()
        self.kind = kind
        self.default = default
        self.placeholder = placeholder
        self.help = help
        self.group = group


SERVER = "Server"
LIMITS = "Limit"
JETSTREAM = "JetStream"
LOGGING = "Logging"
AUTHORIZATION = "Authorization"
COMMON = "Common"

_SECOND_NS = 1_000_000_000

FLAGS = (
    Flag(
        "host",
        "-a --addr --net",
        "text",
        "0.0.0.0",
        "<host>",
        "Bind to host address (default: 0.0.0.0)",
        SERVER,
    ),
    Flag(
        "port",
        "-p --port",
        "integer",
        4222,
        "<port>",
        "Use port for clients, -1 for any (default: 4222)",
        SERVER,
    ),
    Flag(
        "server_name",
        "-n --name --server_name",
        "text",
        "",
        "<name>",
        "Server name (default: its id)",
        SERVER,
    ),
    Flag(
        "worker_count",
        "--workers",
        "integer",
        -1,
        "<count>",
        "Worker processes (default: usable cores)",
        SERVER,
    ),
    Flag(
        "monitoring_port",
        "-m --http_port",
        "integer",
        0,
        "<port>",
        "Reserved for HTTP monitoring, which is not supported yet: nothing listens there",
        SERVER,
    ),
    Flag("pid_file", "-P --pid", "text", "", "<file>", "File to store PID", SERVER),
    Flag(
        "signal",
        "-sl --signal",
        "text",
        "",
        "<signal>[=<pid>]",
        "Send a signal to a running midge: ldm, stop, quit, term, reopen or reload; <pid> may be a PID file",
        SERVER,
    ),
    Flag(
        "client_advertise", "--client_advertise", "text", "", "<host:port>", "Address told to clients", SERVER
    ),
    Flag(
        "ports_file_dir",
        "--ports_file_dir",
        "text",
        "",
        "<dir>",
        "Write the ports in use into this directory, as nats-server_<pid>.ports",
        SERVER,
    ),
    Flag(
        "lame_duck_duration_ns",
        "--lame_duck_duration",
        "duration",
        120 * _SECOND_NS,
        "<time>",
        "Time over which clients are closed in lame duck mode (default: 2m)",
        SERVER,
    ),
    Flag(
        "lame_duck_grace_ns",
        "--lame_duck_grace_period",
        "duration",
        10 * _SECOND_NS,
        "<time>",
        "Time before the first of them is closed (default: 10s)",
        SERVER,
    ),
    Flag(
        "max_payload",
        "--max_payload",
        "size",
        1 << 20,
        "<bytes>",
        "Largest message accepted (default: 1MB)",
        LIMITS,
    ),
    Flag(
        "max_pending",
        "--max_pending",
        "size",
        64 << 20,
        "<bytes>",
        "Unsent bytes that make a client a slow consumer (default: 64MB)",
        LIMITS,
    ),
    Flag(
        "max_connections",
        "--max_connections",
        "integer",
        65536,
        "<count>",
        "Clients at once (default: 65536)",
        LIMITS,
    ),
    Flag(
        "max_subscriptions",
        "--max_subscriptions",
        "integer",
        0,
        "<count>",
        "Subscriptions per client (default: 0, no limit)",
        LIMITS,
    ),
    Flag(
        "max_sub_tokens",
        "--max_sub_tokens",
        "integer",
        0,
        "<count>",
        "Tokens in a subscribed subject (default: 0, no limit)",
        LIMITS,
    ),
    Flag(
        "max_control_line",
        "--max_control_line",
        "size",
        4096,
        "<bytes>",
        "Longest protocol line (default: 4KB)",
        LIMITS,
    ),
    Flag(
        "ping_interval_ns",
        "--ping_interval",
        "duration",
        120 * _SECOND_NS,
        "<time>",
        "Time between PINGs to a quiet client (default: 2m)",
        LIMITS,
    ),
    Flag("ping_max", "--ping_max", "integer", 2, "<count>", "Unanswered PINGs allowed (default: 2)", LIMITS),
    Flag(
        "write_deadline_ns",
        "--write_deadline",
        "duration",
        10 * _SECOND_NS,
        "<time>",
        "Time a blocked write may take (default: 10s)",
        LIMITS,
    ),
    Flag("jetstream", "-js --jetstream", "boolean", False, "", "Enable JetStream", JETSTREAM),
    Flag(
        "store_dir",
        "-sd --store_dir",
        "text",
        "",
        "<dir>",
        "Keep streams below this directory (default: nats in the directory for temporary files)",
        JETSTREAM,
    ),
    Flag(
        "sync_interval_ns",
        "--js_sync_interval",
        "sync_interval",
        0,
        "<time>",
        "Time between syncs to disk, or always: before anything is acknowledged (default: always)",
        JETSTREAM,
    ),
    Flag("js_domain", "--js_domain", "text", "", "<name>", "JetStream domain", JETSTREAM),
    Flag(
        "log_file",
        "-l --log",
        "text",
        "",
        "<file>",
        "File to append the log to (default: standard error)",
        LOGGING,
    ),
    Flag("log_time", "-T --logtime", "boolean", True, "", "Timestamp log entries (default: true)", LOGGING),
    Flag("log_utc", "--logtime_utc", "boolean", False, "", "Timestamps in UTC, not in local time", LOGGING),
    Flag("log_debug", "-D --debug", "boolean", False, "", "Enable debugging output", LOGGING),
    Flag("log_trace", "-V --trace", "boolean", False, "", "Trace the raw protocol", LOGGING),
    Flag(
        "log_trace_all",
        "-VV",
        "boolean",
        False,
        "",
        "The same as -V: there is no system account yet",
        LOGGING,
    ),
    Flag("log_debug_trace", "-DV", "boolean", False, "", "Debug and trace", LOGGING),
    Flag("log_debug_trace_all", "-DVV", "boolean", False, "", "Debug and trace", LOGGING),
    Flag("user", "--user", "text", "", "<user>", "User required for connections", AUTHORIZATION),
    Flag(
        "password", "--pass", "text", "", "<password>", "Its password, plain or a bcrypt hash", AUTHORIZATION
    ),
    Flag("token", "--auth", "text", "", "<token>", "Token required for connections", AUTHORIZATION),
    Flag(
        "auth_timeout_ns",
        "--auth_timeout",
        "duration",
        2 * _SECOND_NS,
        "<time>",
        "Time that a client has to send them (default: 2s)",
        AUTHORIZATION,
    ),
    Flag("help", "-h --help", "boolean", False, "", "Show this message", COMMON),
    Flag(
        "version",
        "-v --version",
        "boolean",
        False,
        "",
        "Show the nats-server version that is implemented",
        COMMON,
    ),
)

# nats-server's flags for what does not exist here. Naming them gives a better answer than "not defined".
RESERVED = frozenset(
    {
        *("c", "config", "t", "ms", "https_port", "profile"),
        *("s", "syslog", "r", "remote_syslog", "log_size_limit", "max_traced_msg_len"),
        *("tls", "tlscert", "tlskey", "tlsverify", "tlscacert", "help_tls"),
        *("routes", "cluster", "cluster_name", "cluster_listen", "cluster_advertise"),
        *("no_advertise", "connect_retries"),
    }
)

_SIZE_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmg", start=1):
    # As in nats-server's configuration: 1K is 1000, 1KB, 1Ki and 1KiB are 1024.
    _SIZE_UNITS[_letter] = 1000**_power
    for _suffix in ("b", "i", "ib"):
        _SIZE_UNITS[_letter + _suffix] = 1024**_power

_DURATION_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": _SECOND_NS,
    "m": 60 * _SECOND_NS,
    "h": 3600 * _SECOND_NS,
}
_DURATION_PART = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,18}))?(ns|us|µs|ms|s|m|h)")


def parse(arguments: Sequence[str]) -> dict[str, Value]:
    """Read a command line.

    Args:
        arguments: the words after `serve`.

    Returns:
        A value for every row of FLAGS, by its name.

    Raises:
        FlagError: a flag is unknown, lacks its value or has one that cannot be read, or a word is no flag.
    """
    by_spelling = {spelling.lstrip("-"): flag for flag in FLAGS for spelling in flag.spellings}
    values = {flag.name: flag.default for flag in FLAGS}
    words = iter(arguments)
    for word in words:
        if len(word) < 2 or word[0] != "-":
            raise FlagError(f'unrecognized command: "{word}"')
        spelling, has_value, text = word.lstrip("-").partition("=")
        if len(word) - len(word.lstrip("-")) > 2 or not spelling:
            raise FlagError(f"bad flag syntax: {word}")
        flag = by_spelling.get(spelling)
        if flag is None:
            if spelling in RESERVED:
                raise FlagError(f"flag -{spelling} is not supported yet")
            raise FlagError(f"flag provided but not defined: -{spelling}")
        values[flag.name] = _read_value(flag, spelling, text if has_value else None, words)
    return values


def _read_value(flag: Flag, spelling: str, text: str | None, words: Iterator[str]) -> Value:
    if text is None:
        if flag.kind == "boolean":
            return True
        text = next(words, None)
        if text is None:
            raise FlagError(f"flag needs an argument: -{spelling}")
    if len(text) >= 2 and text[0] == text[-1] == '"':
        # Launchers that do not go through a shell pass the quotes along.
        text = text[1:-1]
    try:
        return PARSERS[flag.kind](text)
    except ValueError:
        kind = "boolean value" if flag.kind == "boolean" else "value"
        raise FlagError(f'invalid {kind} "{text}" for flag -{spelling}: parse error') from None


def _parse_boolean(text: str) -> bool:
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(text)


def _parse_integer(text: str) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise ValueError(text)
    return int(text)


def parse_size(text: str) -> int:
    """Return bytes from text like 1048576, 64MB, 8MiB or 1K.

    Raises:
        ValueError: it is no such text.
    """
    digits = text.rstrip("bBkKmMgGiI")
    unit = _SIZE_UNITS.get(text[len(digits) :].lower())
    if unit is None:
        raise ValueError(text)
    return _parse_integer(digits) * unit


def parse_duration_ns(text: str) -> int:
    """Return nanoseconds from text like 2m, 1m30s, 1.5s or 100ms; a bare number is seconds.

    Raises:
        ValueError: it is no such text.
    """
    if text.isascii() and text.isdigit():
        return int(text) * _SECOND_NS
    total_ns = 0
    position = 0
    while part := _DURATION_PART.match(text, position):
        whole, fraction, unit = part.groups(default="")
        total_ns += int(whole) * _DURATION_UNITS_NS[unit]
        total_ns += int(fraction or 0) * _DURATION_UNITS_NS[unit] // 10 ** len(fraction)
        position = part.end()
    if position != len(text) or not text:
        raise ValueError(text)
    return total_ns


def _parse_sync_interval(text: str) -> int:
    return 0 if text == "always" else parse_duration_ns(text)


PARSERS: Mapping[str, Callable[[str], Value]] = {
    "text": str,
    "integer": _parse_integer,
    "boolean": _parse_boolean,
    "size": parse_size,
    "duration": parse_duration_ns,
    "sync_interval": _parse_sync_interval,
}


def help_text() -> str:
    """Return the usage of `midge serve`, built from the table."""
    lines = ["Usage: midge serve [options]"]
    group = ""
    for flag in FLAGS:
        if flag.group != group:
            group = flag.group
            lines += ["", f"{group} options:"]
        left = "    " + " ".join([", ".join(flag.spellings), flag.placeholder]).rstrip()
        lines.append(f"{left:<44} {flag.help}")
    return "\n".join(lines)
