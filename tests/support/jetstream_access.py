"""Requests for stored messages, and their answers made comparable between brokers.

Two brokers never agree on times, so an answer's times are replaced by the sequence of the message that has
them; a request may name a time as `@T5@` (when message 5 was stored) or `@T5+1@` (one nanosecond later).
"""

import json
import re

from support.broker import Broker
from support.jetstream_client import API_PREFIX, Answer, Headers, JetStreamClient, is_end_of_batch, is_first

TIME_NAME = re.compile(r"@T(\d+)([+-]\d+)?@")
TIME_TEXT = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
# What a request with several answers has in its body.
SEVERAL = re.compile(r'"(batch|multi_last)"')


class StreamAccess:
    """One stream of a broker, which captures `<its name>.>`, and a connection that asks about it."""

    def __init__(self, broker: Broker, name: str, **config: object) -> None:
        """Create the stream, with direct get unless `config` says otherwise."""
        self.name = name
        self.raw = broker.connect()
        self.raw.handshake(headers=True, no_responders=True)
        self.client = JetStreamClient(self.raw)
        self._times: dict[bytes, bytes] = {}
        self._texts: dict[int, str] = {}
        try:
            self.client.create(name, **{"subjects": [f"{name}.>"], "allow_direct": True, **config})
        except BaseException:
            self.raw.close()
            raise

    def close(self) -> None:
        """Delete the stream and disconnect."""
        try:
            self.client.api(f"STREAM.DELETE.{self.name}")
        finally:
            self.raw.close()

    def publish(self, subject: str, payload: bytes, headers: Headers = ()) -> None:
        """Store one message on `<name>.<subject>`."""
        ack = self.client.publish(f"{self.name}.{subject}", payload, headers)
        assert "error" not in ack, ack

    def learn_times(self) -> None:
        """Ask when each message was stored; later requests and answers name those times."""
        last = self.client.info(self.name)["state"]["last_seq"]
        for sequence in range(1, last + 1):
            answer = self.client.api(f"STREAM.MSG.GET.{self.name}", {"seq": sequence})
            if "message" in answer:
                self._texts[sequence] = answer["message"]["time"]
                self._times[self._texts[sequence].encode()] = b"<T%d>" % sequence

    def call(self, name: str, body: str = "", headers: Headers = ()) -> str:
        """Return the answer to `$JS.API.<name>.<stream>` as text, times replaced."""
        [answer] = self.client.ask(f"{API_PREFIX}{name}.{self.name}", self._body(body), headers)
        return self._replaced(answer.payload).decode()

    def direct(self, body: str = "", key: str = "", headers: Headers = ()) -> list[Answer]:
        """Return the answers to a request on `$JS.API.DIRECT.GET.<stream>[.<key>]`, times replaced.

        `%s` in body and key stands for the stream's name.
        """
        subject = f"{API_PREFIX}DIRECT.GET.{self.name}" + (f".{key}" if key else "")
        is_last = is_end_of_batch if SEVERAL.search(body) else is_first
        answers = self.client.ask(subject.replace("%s", self.name), self._body(body), headers, is_last)
        return [Answer(self._replaced(answer.headers), answer.payload) for answer in answers]

    def state(self) -> dict[str, object]:
        """Return the stream's state without its times."""
        state = self.client.info(self.name)["state"]
        return {name: value for name, value in state.items() if name not in ("first_ts", "last_ts")}

    def stored(self) -> list[int]:
        """Return the sequences that hold a message."""
        answers = self.direct('{"seq":1,"batch":1000000,"no_hdr":false}')
        return [_sequence(answer) for answer in answers if not answer.status]

    def _body(self, body: str) -> bytes:
        return TIME_NAME.sub(self._time, body.replace("%s", self.name)).encode()

    def _time(self, name: re.Match[str]) -> str:
        seconds, _, fraction = self._texts[int(name[1])][:-1].partition(".")
        nanoseconds = int(fraction.ljust(9, "0")) + int(name[2] or "0")
        assert 0 <= nanoseconds < 1_000_000_000, f"{name[0]} is in another second"
        return f"{seconds}.{nanoseconds:09d}Z"

    def _replaced(self, data: bytes) -> bytes:
        return TIME_TEXT.sub(lambda match: self._times.get(match[0], match[0]), data)


def _sequence(answer: Answer) -> int:
    match = re.search(rb"\r\nNats-Sequence: (\d+)\r\n", answer.headers)
    assert match, answer
    return int(match[1])


def message_of(answer: str) -> dict[str, object]:
    """Return the message in the answer to STREAM.MSG.GET."""
    message = json.loads(answer)["message"]
    assert isinstance(message, dict)
    return message
