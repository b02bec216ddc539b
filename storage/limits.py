"""What a stream may hold, and what it says about itself: plain values.

The words and numbers are the JetStream API's (StreamConfig, StreamState); -1 or 0 means no limit as noted.
"""

from dataclasses import dataclass, field

# What append returns instead of a sequence when a limit refuses the message.
TOO_LARGE = -1
MAXIMUM_MESSAGES = -2
MAXIMUM_BYTES = -3
MAXIMUM_PER_SUBJECT = -4

# The expires_ns of a message that max_age_ns does not count for.
NEVER_NS = (1 << 63) - 1

REFUSALS = {
    TOO_LARGE: "message size exceeds maximum allowed",
    MAXIMUM_MESSAGES: "maximum messages exceeded",
    MAXIMUM_BYTES: "maximum bytes exceeded",
    MAXIMUM_PER_SUBJECT: "maximum messages per subject exceeded",
}

# A segment is sealed at this size: its columns (24 bytes a row) then take some 4 MiB for small messages, and
# one rewrite by compaction stays short. nats-server uses 8 MiB blocks, osiris 500 MB segments.
SEGMENT_BYTES = 32 << 20

# Smaller in memory: a segment is the unit in which the memory of deleted messages comes back.
MEMORY_SEGMENT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Limits of one stream.

    Attributes:
        max_messages: -1: no limit.
        max_bytes: accounted bytes as StreamState.bytes counts them; -1: no limit.
        max_age_ns: 0: no limit.
        max_message_bytes: headers and payload together; -1: no limit.
        max_messages_per_subject: -1 or 0: no limit.
        discard_new: refuse a message that does not fit instead of dropping the oldest.
        discard_new_per_subject: with discard_new, refuse also for max_messages_per_subject.
        segment_bytes: a segment is sealed when the next record would pass this.
    """

    max_messages: int = -1
    max_bytes: int = -1
    max_age_ns: int = 0
    max_message_bytes: int = -1
    max_messages_per_subject: int = -1
    discard_new: bool = False
    discard_new_per_subject: bool = False
    segment_bytes: int = SEGMENT_BYTES


@dataclass(frozen=True, slots=True)
class StreamState:
    """What StreamState of the API reports; times are Unix ns, 0: none yet.

    Attributes:
        num_deleted: sequences between first and last that hold no message.
        lost: sequences whose records were found damaged, and their accounted bytes as far as known.
    """

    messages: int
    bytes: int
    first_seq: int
    first_ts_ns: int
    last_seq: int
    last_ts_ns: int
    num_subjects: int
    num_deleted: int
    lost: tuple[int, ...] = field(default=())
    lost_bytes: int = 0
