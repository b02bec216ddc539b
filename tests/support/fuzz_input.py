"""Seeded input for a broker's parser: mostly valid operations, some of them damaged, cut into random pieces.

It knows the grammar but not the answers: those come from the oracle.
"""

import random
import re

TOKENS = (b"a", b"b", b"c", b"*", b">", b"", b"a*", b"\xc3\xa9", b"long" * 20)
NUMBERS = (b"0", b"1", b"2", b"5", b"007", b"-1", b"+1", b"x", b"999999999", b"9999999999", b"1048577", b"")
VERBS = (b"PUB", b"SUB", b"UNSUB", b"HPUB", b"PING", b"PONG", b"CONNECT", b"INFO", b"+OK", b"-ERR", b"MSG")
BLANKS = (b" ", b"  ", b"\t", b" \t ")
LINE_ENDS = (b"\r\n",) * 9 + (b"\n",)
SNIPPETS = (
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\x00",
    b"\xff",
    b".",
    b"..",
    b"*",
    b">",
    b"{",
    b'"',
    b"9" * 12,
)
OPTIONS = (
    b'{"verbose":true,"pedantic":false,"headers":true}',
    b'{"verbose":true,"pedantic":true,"headers":true}',
    b'{"verbose":false,"pedantic":false,"headers":true}',
    b'{"verbose":true,"headers":false}',
    b'{"verbose":true,"echo":false,"headers":true}',
    b'{"verbose":true,"protocol":1}',
    b'{"VERBOSE":true,"Pedantic":false,"protocol":1,"lang":"x","version":"1","name":"n"}',
    b'{"verbose":1}',
    b"{}",
    b"{",
    b"",
)
PAYLOAD_VERB = re.compile(rb"H?MSG ")
# nats-server says it on the control line, so also for a message that never comes whole, and says it again
# when its reads happen to cut the message. Transcripts hold what matters of it.
SAID_ANY_NUMBER_OF_TIMES = b"-ERR 'Invalid Publish Subject'\r\n"
# Input that midge answers otherwise on purpose:
KNOWN_DIFFERENCES = re.compile(
    # a blank argument ended by LF alone, where nats-server takes the next line as the argument
    rb"(^|\n)(connect|info|pub|hpub|sub|unsub|-err)[ \t]*\n",
    re.IGNORECASE,
)


class InputGenerator:
    """Makes the input of one connection from a seed; equal seeds give equal inputs."""

    def __init__(self, seed: int) -> None:
        """Seed the generator; the number is also part of every valid subject, so that runs do not mix."""
        self._random = random.Random(seed)
        self._prefix = b"f%d" % seed

    def pieces(self) -> list[bytes]:
        """Return the input in the pieces in which it is to be sent."""
        data = b"CONNECT " + self._random.choice(OPTIONS[:7]) + b"\r\n"
        for _ in range(self._random.randint(1, 30)):
            operation = self._operation()
            if self._random.random() < 0.06:
                operation = self._damage(operation)
            data += operation
        return self._split(data + b"PING\r\n" * 2)

    def _subject(self) -> bytes:
        choose = self._random.choice
        tokens = [choose(TOKENS[:3]) for _ in range(self._random.randint(0, 3))]
        if self._random.random() < 0.3:
            tokens.append(choose(TOKENS))
        return b".".join([self._prefix, *tokens])

    def _number(self, likely: int) -> bytes:
        return self._random.choice(NUMBERS) if self._random.random() < 0.03 else b"%d" % likely

    def _operation(self) -> bytes:
        choose = self._random.choice
        blank, end = choose(BLANKS) if self._random.random() < 0.2 else b" ", choose(LINE_ENDS)
        sid = choose((b"1", b"2", b"3", b"sid", b"01"))
        kind = self._random.random()
        if kind < 0.25:
            queue = [b"q%d" % self._random.randint(0, 99)] if self._random.random() < 0.2 else []
            line = blank.join([self._verb(b"SUB"), self._subject(), *queue, sid]) + end
        elif kind < 0.35:
            maximum = [self._number(self._random.randint(0, 4))] if self._random.random() < 0.6 else []
            line = blank.join([self._verb(b"UNSUB"), sid, *maximum]) + end
        elif kind < 0.7:
            line = self._publish(blank, end)
        elif kind < 0.8:
            line = self._publish_with_headers(blank, end)
        elif kind < 0.9:
            line = self._verb(choose((b"PING", b"PONG", b"+OK"))) + choose((b"", b"", b" x", b"zzz")) + end
        elif kind < 0.95:
            line = self._verb(b"CONNECT") + b" " + choose(OPTIONS) + end
        else:
            line = choose(VERBS) + blank + choose((b"", b"{}", b"x 1", b"'text'")) + end
        return line

    def _verb(self, verb: bytes) -> bytes:
        return verb.lower() if self._random.random() < 0.1 else verb

    def _payload(self) -> bytes:
        return self._random.randbytes(self._random.choice((0, 1, 2, 5, 5, 30, 5000)))

    def _publish(self, blank: bytes, end: bytes) -> bytes:
        payload = self._payload()
        reply = [self._subject()] if self._random.random() < 0.3 else []
        words = [self._verb(b"PUB"), self._subject(), *reply, self._number(len(payload))]
        return blank.join(words) + end + payload + b"\r\n"

    def _publish_with_headers(self, blank: bytes, end: bytes) -> bytes:
        block = self._random.choice((b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\nA: b\r\n\r\n", b"junk", b""))
        payload = self._payload()
        reply = [self._subject()] if self._random.random() < 0.3 else []
        sizes = [self._number(len(block)), self._number(len(block) + len(payload))]
        words = [self._verb(b"HPUB"), self._subject(), *reply, *sizes]
        return blank.join(words) + end + block + payload + b"\r\n"

    def _damage(self, data: bytes) -> bytes:
        place = self._random.randrange(len(data) + 1)
        other = self._random.randrange(len(data) + 1)
        snippet = self._random.choice(SNIPPETS)
        return self._random.choice(
            (
                data[:place] + snippet + data[place:],
                data[:place] + data[place + 1 :],
                data[: min(place, other)] + data[max(place, other) :],
                data[:place] + snippet + data[place + 1 :],
                data + data[place:],
            )
        )

    def _split(self, data: bytes) -> list[bytes]:
        style = self._random.random()
        if style < 0.3:
            return [data]
        longest = 3 if style < 0.4 else 200
        pieces = []
        while data:
            size = self._random.randint(1, longest)
            pieces.append(data[:size])
            data = data[size:]
        return pieces


def normalised_answers(data: bytes) -> list[bytes]:
    """Cut a server's output into operations and take out what may differ between equal servers.

    INFO is reduced to its verb, PING is dropped (its time is the server's own), and neighbouring messages are
    sorted, as the order among the subscriptions of one connection is not defined.
    Complaints about published subjects are dropped, see above.
    """
    operations: list[bytes] = []
    messages: list[bytes] = []
    start = 0
    while start < len(data):
        line_end = data.find(b"\r\n", start)
        end = len(data) if line_end < 0 else line_end + 2
        operation = data[start:end]
        if PAYLOAD_VERB.match(operation) and line_end >= 0:
            end += int(operation.split()[-1]) + 2
            messages.append(data[start:end])
        elif operation != b"PING\r\n":
            operations += sorted(messages)
            messages.clear()
            if operation != SAID_ANY_NUMBER_OF_TIMES:
                operations.append(b"INFO" if operation.startswith(b"INFO ") else operation)
        start = end
    return operations + sorted(messages)
