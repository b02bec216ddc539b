"""Messages that take the place of others: Nats-Rollup, and the end of a schedule.

    Nats-Rollup: sub     older messages of the subject go when this one is stored
    Nats-Rollup: all     all older messages of the stream go

Source: nats-server server/stream.go, processJetStreamMsgWithRollup.
"""

from storage import queries
from storage.stream import StreamStore
from storage.subjects import SubjectFilter
from workers.jetstream import apierrors, headers
from workers.jetstream.gojson_quote import quote

SUBJECT, ALL = b"sub", b"all"


def parse(block: bytes) -> bytes:
    """Return the value of Nats-Rollup in small letters, b"" if there is none."""
    return (headers.get(block, headers.ROLLUP) or b"").lower()


def check(rollup: bytes, *, is_allowed: bool) -> None:
    """Check a value that is not empty.

    Raises:
        ApiError: 10111, not allowed or neither SUBJECT nor ALL.
    """
    if not is_allowed:
        raise apierrors.stream_rollup_failed("rollup not permitted")
    if rollup not in (SUBJECT, ALL):
        raise apierrors.stream_rollup_failed(f"rollup value invalid: {quote(rollup)}")


def apply(store: StreamStore, rollup: bytes, subject: bytes, before: int) -> None:
    """Take out what a stored message replaces.

    Args:
        rollup: SUBJECT, ALL, or anything else for nothing.
        before: messages below this sequence go.
    """
    if rollup == SUBJECT:
        purge_subject(store, subject, before)
    elif rollup == ALL:
        store.purge_to(before)


def purge_subject(store: StreamStore, subject: bytes, before: int) -> None:
    """Take out the messages of a literal subject below a sequence, oldest first."""
    # One by one along the subject's own chain: queries.purge would look at every subject of the stream.
    of_subject = SubjectFilter(store.subjects, (subject,))
    while (sequence := queries.find_next(store, of_subject, 0)) is not None and sequence < before:
        store.delete(sequence)
