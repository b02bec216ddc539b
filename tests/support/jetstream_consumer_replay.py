"""Do the same with consumers of two brokers, and wait until both have said the same.

Messages to one inbox come in order; those to different inboxes do not, so what came is kept by inbox. Answers
of the API that tell of a state are asked for again until they are the same, as a broker may still be busy.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections import defaultdict
from collections.abc import Sequence

from support.broker import Broker
from support.jetstream_consumer_client import ConsumerClient, Delivery
from support.jetstream_consumer_steps import (
    ACK,
    API,
    IGNORE,
    LISTEN,
    PUBLISH,
    PULL,
    RESTART,
    WAIT,
    ConsumerGenerator,
    Step,
)
from support.jetstream_replay import DIFFERENCES, prefix_of, shrink
from support.jetstream_steps import MARK

AGREE_TIMEOUT_S = 3.0
QUIET_S = 0.01
QUESTIONS = ("CONSUMER.INFO.", "CONSUMER.LIST.", "STREAM.INFO.")
ACK_TIME = re.compile(r"(\$JS\.ACK\.[^ ]+\.)\d{19}(\.\d+)")
MORE_DIFFERENCES = (
    ("when something happened last", re.compile(r',?"last_active":"[^"]*"'), ""),
    ("how long a pause still lasts", re.compile(r'"pause_remaining":\d+'), '"pause_remaining":0'),
    (
        "how far no filter matches; nats-server passes over it when it happens to look",
        re.compile(r'("(?:delivered|ack_floor)":\{"consumer_seq":\d+),"stream_seq":\d+'),
        r"\1",
    ),
    (
        "where nothing is pending, the floor moves sooner or later",
        re.compile(r'"ack_floor":\{[^}]*\},"num_ack_pending":0,'),
        '"num_ack_pending":0,',
    ),
    (
        "a consumer may have delivered before the answer to its creation, or not yet",
        re.compile(r'(consumer_create_response"[^\n]*),"delivered":[^\n]*'),
        r"\1",
    ),
    ("of the server", re.compile(r'"_nats\.ver":"[^"]*"'), ""),
)

Said = dict[str, list[str]]


class ConsumerAsker:
    """One broker, what its consumers delivered, and what it said, by inbox."""

    def __init__(self, broker: Broker) -> None:
        self.kind = broker.kind
        self.said: Said = defaultdict(list)
        self.delivered: dict[str, list[Delivery]] = defaultdict(list)
        self._broker = broker
        self._client = ConsumerClient(broker)
        self._labels: dict[int, str] = {}
        self._listening: dict[str, tuple[int, str]] = {}
        self._prefix = ""
        self._numbers = itertools.count()

    def begin(self, prefix: str) -> None:
        """Forget everything and use another prefix."""
        for sid, _ in self._listening.values():
            self._client.ignore(sid)
        self._listening.clear()
        self._labels.clear()
        names = self._client.api("STREAM.NAMES")["streams"]
        for name in names if isinstance(names, list) else ():
            self._client.api(f"STREAM.DELETE.{name}")
        self.said.clear()
        self.delivered.clear()
        self._prefix = prefix
        self._numbers = itertools.count()

    def stop(self) -> None:
        self._client.close()
        self._broker.stop()

    # ---- doing

    def do(self, step: Step) -> None:
        """Begin a step; what comes of it is in `said` later."""
        name, payload = (text.replace(MARK, self._prefix) for text in (step.name, step.payload))
        if step.kind == API:
            self._ask("$JS.API." + name, payload, step.name)
        elif step.kind == PUBLISH:
            self._ask(name, payload, "publish", step.headers)
        elif step.kind == PULL:
            self._ask(f"$JS.API.CONSUMER.MSG.NEXT.{name}", payload, "pull")
        elif step.kind == ACK:
            self._acknowledge(step, name, payload)
        elif step.kind == LISTEN and name not in self._listening:
            sid = self._client.listen(name, payload)
            self._listening[name] = sid, payload
            self._labels[sid] = f"listen {step.name}"
        elif step.kind == IGNORE and name in self._listening:
            self._client.ignore(self._listening.pop(name)[0])
        elif step.kind == RESTART:
            self._restart()

    def _ask(self, subject: str, payload: str, what: str, headers: Sequence[Sequence[str]] = ()) -> None:
        pairs = [(key, value) for key, value in headers]
        sid = self._client.request(subject, payload.encode(), pairs)
        self._labels[sid] = f"{next(self._numbers)} {what}"

    def _acknowledge(self, step: Step, key: str, payload: str) -> None:
        messages = self.delivered[key]
        number = next(self._numbers)
        if step.index >= len(messages):
            return
        reply = messages[step.index].reply.decode()
        if step.wants_answer or payload.startswith("+NXT"):
            sid = self._client.request(reply, payload.encode())
            self._labels[sid] = f"{number} ack"
        else:
            self._client.publish(reply, payload.encode())

    def _restart(self) -> None:
        self.take(0.3)
        self._client.close()
        self._broker.stop()
        self._broker.start_again()
        self._client = ConsumerClient(self._broker)
        # Requests that waited are over; what they were told before the end may be lost.
        self._labels.clear()
        for subject, (_, group) in list(self._listening.items()):
            sid = self._client.listen(subject, group)
            self._listening[subject] = sid, group
            self._labels[sid] = f"listen {subject.replace(self._prefix, MARK)}"

    # ---- hearing

    def take(self, timeout_s: float) -> bool:
        """Take what comes until nothing does for a time; return whether something came."""
        came = False
        while True:
            try:
                message = self._client.receive(timeout_s)
            except AssertionError as error:
                if "the server closed" in str(error):
                    raise
                return came
            came = True
            label = self._labels.get(message.sid)
            if label is None:
                continue
            if message.reply.startswith(b"$JS.ACK."):
                parts = message.reply.decode().split(".")
                self.delivered[f"{parts[2]}.{parts[3]}"].append(message)
            self.said[label].append(self._normalise(message, label))

    def ask_again(self, step: Step) -> None:
        """Put a question again in the place of its last answer."""
        name, payload = (text.replace(MARK, self._prefix) for text in (step.name, step.payload))
        [sid] = [sid for sid, label in self._labels.items() if label == self._last_label(step)]
        label = self._labels.pop(sid)
        self.said.pop(label, None)
        self._labels[self._client.request("$JS.API." + name, payload.encode())] = label

    def last_answer(self, step: Step) -> list[str]:
        """Return what was said to a step of kind API that was done last."""
        return self.said.get(self._last_label(step), [])

    def _last_label(self, step: Step) -> str:
        labels = [label for label in self._labels.values() if label.split(" ", 1)[1] == step.name]
        return max(labels, key=lambda label: int(label.split(" ")[0]))

    def _normalise(self, message: Delivery, label: str) -> str:
        subject = "" if message.subject.startswith(b"_INBOX") else message.subject.decode()
        text = f"{subject} {message.reply.decode()}\n{(message.headers + message.payload).decode()}"
        text = ACK_TIME.sub(r"\1<time>\2", text).replace(self._prefix, MARK)
        for _, pattern, replacement in (*DIFFERENCES, *MORE_DIFFERENCES):
            text = pattern.sub(replacement, text)
        return text

    def deliveries(self) -> dict[str, int]:
        """Return how many messages each consumer delivered, by `<stream>.<consumer>` with MARK."""
        return {key.replace(self._prefix, MARK): len(value) for key, value in self.delivered.items()}


class Pair:
    """Two brokers that should say the same."""

    def __init__(self, oracle: ConsumerAsker, other: ConsumerAsker) -> None:
        self.oracle, self.other = oracle, other

    def begin(self, number: int) -> None:
        for one in (self.oracle, self.other):
            one.begin(prefix_of(number))

    def do(self, step: Step) -> str:
        """Do a step on both; return what differs when time is over, "" if nothing does."""
        for one in (self.oracle, self.other):
            one.do(step)
        if step.kind == WAIT:
            end = time.monotonic() + step.index / 1000
            while (left := end - time.monotonic()) > 0:
                self.oracle.take(left / 2)
                self.other.take(min(QUIET_S, left))
        return self._agree(step)

    def _agree(self, step: Step) -> str:
        deadline = time.monotonic() + AGREE_TIMEOUT_S
        is_question = step.kind == API and step.name.startswith(QUESTIONS)
        silent = step.kind in (WAIT, LISTEN, IGNORE, RESTART)
        while True:
            for one in (self.oracle, self.other):
                one.take(QUIET_S)
            said = self.oracle.said == self.other.said
            if said and (silent or step.kind != API or self.oracle.last_answer(step)):
                return ""
            if time.monotonic() > deadline:
                return self._difference()
            if is_question and self.oracle.last_answer(step) and self.other.last_answer(step):
                for one in (self.oracle, self.other):
                    one.ask_again(step)

    def _difference(self) -> str:
        lines = []
        for label in sorted({*self.oracle.said, *self.other.said}):
            one, two = self.oracle.said.get(label, []), self.other.said.get(label, [])
            if one != two:
                lines.append(f"[{label}]\n  {self.oracle.kind}: {one}\n  {self.other.kind}: {two}")
        return "\n".join(lines) or "neither answers"

    def run(self, steps: Sequence[Step], number: int) -> str:
        """Do steps from the beginning; return the first difference, or ""."""
        self.begin(number)
        for step in steps:
            difference = self.do(step)
            if difference:
                return difference
        return ""

    def search(self, seed: int, count: int) -> tuple[list[Step], str]:
        """Do `count` random steps and a restart; return those done and the first difference, or ""."""
        self.begin(seed)
        generator = ConsumerGenerator(seed)
        steps: list[Step] = []
        last: list[Step] = []
        while len(steps) < count or last:
            generator.delivered = self.oracle.deliveries()
            step = last.pop(0) if last else generator.next()
            steps.append(step)
            if len(steps) == count:
                # What is NAKed and not delivered again yet waits for its ack wait in nats-server then.
                last = generator.restart()
            difference = self.do(step)
            if difference:
                return steps, difference
            if step.kind == API and '"error"' in "".join(self.oracle.last_answer(step)):
                generator.refused(step)
        return steps, ""

    def explain(self, steps: Sequence[Step], difference: str) -> str:
        """Return the difference after few steps, as text to read and replay."""
        numbers = itertools.count(1000)
        few: Sequence[Step] = shrink(steps, lambda some: bool(self.run(some, next(numbers))))  # type: ignore[type-var,arg-type]
        again = self.run(few, next(numbers))
        lines = "\n".join(step.to_json() for step in few)
        return f"{again or difference + ' (once)'}\nafter these steps:\n{lines}"


def replay(pair: Pair, lines: str) -> str:
    """Run the lines of explain() again and return what differs."""
    return pair.run([Step(**json.loads(line)) for line in lines.splitlines()], 0)
