"""Questions about subjects of configurations and requests: valid, literal, matching, overlapping.

The answers are nats-server's, odd corners included (Source: server/sublist.go). Parsing and routing have
their own compiled code in workers/parser.pyx and workers/sublist.pyx.
"""

import re

_SPACES = re.compile("[\t\n\f\r ]")


def tokens(subject: str) -> list[str]:
    """Return the tokens of a subject; the empty subject has one empty token."""
    return subject.split(".")


def is_valid_subject(subject: str) -> bool:
    """Tell whether a subject may be subscribed to: no empty token, no white space, `>` only at the end."""
    if not subject or _SPACES.search(subject):
        return False
    parts = subject.split(".")
    return "" not in parts and ">" not in parts[:-1]


def is_literal(subject: str) -> bool:
    """Tell whether a subject has no wildcard token; it need not be valid."""
    if "*" not in subject and ">" not in subject:
        return True
    parts = subject.split(".")
    return "*" not in parts and ">" not in parts


def is_valid_literal(subject: str) -> bool:
    """Tell whether a subject may be published to."""
    return is_literal(subject) and is_valid_subject(subject)


def is_subset(subject: str, of: str) -> bool:
    """Tell whether everything that the first subject matches is matched by the second; wildcards in both."""
    parts, test = subject.split("."), of.split(".")
    for index, wanted in enumerate(test):
        if index >= len(parts) or not wanted:
            return False
        if wanted == ">":
            return True
        part = parts[index]
        if not part or part == ">":
            return False
        if part == "*":
            if wanted != "*":
                return False
        # A token that only begins with a star passes in nats-server's test, too.
        elif wanted[0] != "*" and part != wanted:
            return False
    return len(parts) == len(test)


def matches(pattern: str, subject: str) -> bool:
    """Tell whether a literal subject is matched by a pattern."""
    return pattern == subject or is_subset(subject, pattern)


def collides(first: str, second: str) -> bool:
    """Tell whether some subject is matched by both."""
    if first == second:
        return True
    first_is_literal, second_is_literal = is_literal(first), is_literal(second)
    if first_is_literal and second_is_literal:
        return False
    if first_is_literal:
        return is_subset(first, second)
    if second_is_literal:
        return is_subset(second, first)
    parts1, parts2 = first.split("."), second.split(".")
    if len(parts1) != len(parts2):
        shorter = parts1 if len(parts1) < len(parts2) else parts2
        if ">" not in shorter:
            return False
    return all(_can_meet(one, other) for one, other in zip(parts1, parts2, strict=False))


def _can_meet(one: str, other: str) -> bool:
    if not one or not other:
        return False
    # The first character decides, as in nats-server: "*a" meets everything.
    return one[0] in "*>" or other[0] in "*>" or one == other


def overlap(some: tuple[str, ...] | list[str], others: tuple[str, ...] | list[str]) -> bool:
    """Tell whether any subject of one list collides with any of the other."""
    return any(collides(one, other) for one in some for other in others)
