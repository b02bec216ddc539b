"""Subjects and subscriptions as plain Python: the slow, obvious twin of workers/sublist.pyx."""

from __future__ import annotations

from collections import Counter
from functools import cache


def subject_kind(subject: bytes) -> str:
    """Return "invalid", "literal" or "wildcard", as of a subject to subscribe to."""
    tokens = subject.split(b".")
    if b"" in tokens or b">" in tokens[:-1]:
        return "invalid"
    return "wildcard" if b"*" in tokens or tokens[-1] == b">" else "literal"


@cache
def subject_matches(pattern: bytes, subject: bytes) -> bool:
    """Return whether a message on `subject`, whose tokens are all literal, meets a subscription."""
    wanted, tokens = pattern.split(b"."), subject.split(b".")
    if b"" in tokens:
        return False
    if wanted[-1] == b">":
        wanted.pop()
        if len(tokens) <= len(wanted):
            return False
        tokens = tokens[: len(wanted)]
    return len(wanted) == len(tokens) and all(
        token in (b"*", given) for token, given in zip(wanted, tokens, strict=True)
    )


class SublistModel:
    """Who subscribed to what: a list, searched from end to end."""

    def __init__(self) -> None:
        self.subscriptions: dict[int, tuple[bytes, bytes]] = {}
        self.remote_plain: dict[int, set[bytes]] = {}
        self.remote_queues: dict[tuple[int, bytes, bytes], int] = {}

    def insert(self, number: int, subject: bytes, queue: bytes) -> None:
        """Add a subscription under a number of its own."""
        self.subscriptions[number] = (subject, queue)

    def remove(self, number: int) -> None:
        """Take it out again."""
        del self.subscriptions[number]

    def plain(self, subject: bytes) -> list[int]:
        """Return the plain subscriptions that a message meets, sorted."""
        return sorted(
            number
            for number, (pattern, queue) in self.subscriptions.items()
            if not queue and subject_matches(pattern, subject)
        )

    def queues(self, subject: bytes) -> dict[bytes, list[int]]:
        """Return the members of each queue name that a message meets, sorted."""
        found: dict[bytes, list[int]] = {}
        for number, (pattern, queue) in sorted(self.subscriptions.items()):
            if queue and subject_matches(pattern, subject):
                found.setdefault(queue, []).append(number)
        return found

    def subjects(self) -> Counter[bytes]:
        """Return how many subscriptions each subject has."""
        return Counter(subject for subject, _ in self.subscriptions.values())
