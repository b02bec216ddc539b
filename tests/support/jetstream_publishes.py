"""Scripts of publishes to one stream, run against a broker or the Publisher alone, and what came of them.

`@` in subjects, headers, replies and configuration stands for the stream's name.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Protocol

from support.broker import Broker
from support.faulty_files import RecordingFiles
from support.jetstream_client import LINE, JetStreamClient, encode_headers
from support.publishing import FakeStream
from support.rawclient import RawClient
from support.wait import wait_until

from storage.memory import memory_stream
from storage.store import Store
from workers.jetstream.stream_config import StreamConfig

TIME_STAMP = re.compile(rb"Nats-Time-Stamp: [^\r]*")
STATE_MEMBERS = ("messages", "bytes", "first_seq", "last_seq", "num_subjects", "num_deleted")
LAST_REPLY = "R.@.last"
# Refused by every stream that answers, so its answer shows that everything before was handled.
LAST_HEADERS = (("Nats-Expected-Stream", "no such stream"),)


@dataclass(frozen=True)
class Publish:
    """One message.

    Attributes:
        key: its subject behind `<stream>.`.
        headers: lines in order, or a whole block as bytes.
        reply: "" for a subject of its own, None for no reply.
    """

    key: str = "a"
    payload: bytes = b""
    headers: tuple[tuple[str, str], ...] | bytes = ()
    reply: str | None = ""

    def block(self, stream: str) -> bytes:
        """Return the header block as sent."""
        block = self.headers if isinstance(self.headers, bytes) else encode_headers(self.headers)
        return block.replace(b"@", stream.encode())

    def reply_subject(self, stream: str, number: int) -> str:
        """Return where the answer goes, "" for none."""
        return "" if self.reply is None else (self.reply or f"R.@.{number}").replace("@", stream)


def publish(key: str = "a", payload: bytes = b"", *, reply: str | None = "", **headers: str | int) -> Publish:
    """Return a message; `_` in header names stands for `-`."""
    lines = tuple((name.replace("_", "-"), str(value)) for name, value in headers.items())
    return Publish(key, payload, lines, reply)


@dataclass
class Transcript:
    """What came of a script.

    Attributes:
        answers: (reply subject, body) in order.
        copies: messages published again: (subject, header block without the time, payload).
        stored: what STREAM.MSG.GET tells of every message, without its time.
    """

    answers: list[tuple[str, bytes]] = field(default_factory=list)
    copies: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    stored: list[dict[str, object]] = field(default_factory=list)
    state: dict[str, object] = field(default_factory=dict)


class Runner(Protocol):
    """Runs scripts."""

    def run(self, stream: str, config: dict[str, object], script: list[Publish]) -> Transcript: ...


class BrokerRunner:
    """Runs scripts against a broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._api = JetStreamClient(broker.connect().handshake(headers=True, no_responders=True))

    def close(self) -> None:
        """Close the connection."""
        self._api.client.close()

    def create(self, stream: str, config: dict[str, object]) -> dict[str, object]:
        """Create the stream and return its configuration."""
        text = json.dumps({"subjects": ["@.>"], "allow_direct": True, **config}).replace("@", stream)
        answer = self._api.create(stream, **json.loads(text))["config"]
        assert isinstance(answer, dict)
        return answer

    def run(self, stream: str, config: dict[str, object], script: list[Publish]) -> Transcript:
        """Create a stream, publish, and collect what comes."""
        created = self.create(stream, config)
        raw = self._broker.connect().handshake(headers=True, no_responders=True)
        raw.send(f"SUB R.{stream}.> 1\r\nSUB RP.{stream}.> 2\r\n".encode())
        try:
            transcript = self._publish_all(raw, stream, script, has_acks=not created.get("no_ack"))
        finally:
            raw.close()
        state = self._api.info(stream)["state"]
        transcript.state = {name: state.get(name, 0) for name in STATE_MEMBERS}
        for sequence in range(1, state["last_seq"] + 1):
            answer = self._api.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence})
            if "message" in answer:
                transcript.stored.append({k: v for k, v in answer["message"].items() if k != "time"})
        return transcript

    def _publish_all(
        self, raw: RawClient, stream: str, script: list[Publish], *, has_acks: bool
    ) -> Transcript:
        transcript = Transcript()
        for number, message in enumerate(script):
            send(raw, message, stream, number)
        if has_acks:
            send(raw, Publish("a", b"", LAST_HEADERS, LAST_REPLY), stream, 0)
        else:
            count = sum(message.key != "refused" for message in script)
            wait_until(lambda: self._api.info(stream)["state"]["last_seq"] >= count, "messages", 20)
            # Its answer leaves through the stream's own queue, behind those before.
            raw.send(b"PUB $JS.API.DIRECT.GET.%b R.%b.last 0\r\n\r\n" % (stream.encode(), stream.encode()))
        collect(raw, stream, transcript)
        return transcript


def send(raw: RawClient, message: Publish, stream: str, number: int) -> None:
    """Send one message of a script."""
    block = message.block(stream)
    reply = message.reply_subject(stream, number)
    subject = f"{stream}.{message.key}"
    sizes = f"{len(block)} {len(block) + len(message.payload)}" if block else str(len(message.payload))
    line = f"{'HPUB' if block else 'PUB'} {subject} {reply} {sizes}\r\n"
    raw.send(line.encode() + block + message.payload + b"\r\n")


def collect(raw: RawClient, stream: str, transcript: Transcript) -> None:
    """Take in what comes, up to the last answer."""
    last = f"R.{stream}.last"
    while True:
        has_headers, subject, header_size, size = raw.expect(LINE.pattern).groups()
        body = raw.expect(rb"(.{%d})\r\n" % int(size))[1]
        split = int(header_size) if has_headers else 0
        if subject.decode() == last:
            return
        if subject.startswith(b"RP."):
            block = TIME_STAMP.sub(b"Nats-Time-Stamp: T", body[:split])
            transcript.copies.append((subject.decode(), block, body[split:]))
        else:
            transcript.answers.append((subject.decode(), body))


class PublisherRunner:
    """Runs scripts against a Publisher over a store, without a broker around it."""

    def __init__(self, oracle: BrokerRunner) -> None:
        """Take a broker that fills in the configuration."""
        self._oracle = oracle

    def run(self, stream: str, config: dict[str, object], script: list[Publish]) -> Transcript:
        """Publish and collect what comes."""
        members = json.dumps(self._oracle.create(stream, config)).encode()
        parsed, _ = StreamConfig.parse(members, strict=False)
        if parsed.storage == "memory":
            store = memory_stream(parsed.limits())
        else:
            files = Store(RecordingFiles(), threaded=False)
            store = files.create_stream("s", limits=parsed.limits()).stream
        fake = FakeStream(parsed, store)
        for number, message in enumerate(script):
            fake.publish_raw(
                f"{stream}.{message.key}".encode(),
                message.reply_subject(stream, number).encode(),
                message.block(stream),
                message.payload,
            )
        transcript = Transcript()
        for reply, sent, body in fake.answers:
            if reply.startswith(b"RP."):
                block = TIME_STAMP.sub(b"Nats-Time-Stamp: T", sent)
                transcript.copies.append((reply.decode(), block, body))
            else:
                transcript.answers.append((reply.decode(), body))
        state = store.state()
        transcript.state = {name: getattr(state, name) for name in STATE_MEMBERS}
        for sequence, subject, block, payload in fake.stored():
            stored: dict[str, object] = {"subject": subject, "seq": sequence}
            if block:
                stored["hdrs"] = base64.b64encode(block).decode()
            if payload:
                stored["data"] = base64.b64encode(payload).decode()
            transcript.stored.append(stored)
        return transcript
