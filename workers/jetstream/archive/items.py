"""What an archive says, one piece after the other, whichever format it has."""

from typing import NamedTuple


class StreamFacts(NamedTuple):
    """What is known of the stream before its messages come.

    Attributes:
        first_sequence, last_sequence: of the stream when it was backed up; 0: not known yet.
        consumer_count: how many ConsumerRecords belong to it.
        config: its StreamConfig as JSON; b"": the archive does not hold it.
        created_ns: when it was made, Unix ns; 0: the archive does not tell.
    """

    first_sequence: int
    last_sequence: int
    consumer_count: int
    config: bytes
    created_ns: int = 0


class ConsumerRecord(NamedTuple):
    """A consumer.

    Attributes:
        definition: JSON with its `config` and its `state`, as nats-server 2.15 writes it; it is not checked.
        created_ns: when it was made, Unix ns; 0: the archive does not tell.
        refusal: how nats-server begins to say why it cannot be restored; "": it depends on why.
    """

    name: str
    definition: bytes
    created_ns: int = 0
    refusal: str = ""


class ArchivedMessage(NamedTuple):
    """A message; sequences only grow, those left out hold no message."""

    sequence: int
    timestamp_ns: int
    subject: bytes
    headers: bytes
    payload: bytes


class Deleted(NamedTuple):
    """The message with this sequence, told before, is deleted."""

    sequence: int


class Bounds(NamedTuple):
    """The stream's first and last sequence; no message follows."""

    first_sequence: int
    last_sequence: int


Item = StreamFacts | ConsumerRecord | ArchivedMessage | Deleted | Bounds
