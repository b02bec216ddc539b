"""Send the same steps to two brokers and compare what they answer, byte for byte after the times are out.

What may differ is in DIFFERENCES alone, each with its reason. When something else does, the steps are cut
down to few that still show it, and written as lines that replay() reads.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from support.broker import Broker
from support.jetstream_client import Answer, JetStreamClient, is_end_of_batch, is_first
from support.jetstream_steps import CONNECTIONS, MARK, Generator, Step
from support.rawclient import RawClient

SERVER_NAME = "the-server"
# Answers come within milliseconds; this long is silence.
SILENCE_S = 2.0
SHRINK_RUNS_MAX = 80
# Stays: when the last stream with files goes, nats-server removes their folder behind its answer, and the
# next stream may find it gone (500, error creating store for stream).
LASTING_STREAM = "LASTING"
# Runs have numbers: below this one the seeds. Names are in use once per run, as nats-server 2.15.1 may bring
# back messages of a stream that was deleted and made again.
FIRST_SHRINK_RUN = 1000

Transcript = list[str]

# What, where it stands, what is put in its place, and why.
DIFFERENCES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    (
        "times are those of the broker's clock; zero times stay",
        re.compile(r"(?!0001-01-01T00:00:00Z)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
        "<time>",
    ),
    (
        "nats-server counts a call after answering it, so INFO may or may not count the one before",
        re.compile(r'"api":\{"level":(\d+),"total":\d+(?:,"errors":\d+|)'),
        r'"api":{"level":\1',
    ),
    (
        "first_seq of a stream that never held a message: nats-server says 1 after a purge and where the"
        " configuration said 1, else 0; midge says 0",
        re.compile(
            r'("messages":0,"bytes":0,"first_seq":)1(,"first_ts":"0001-01-01T00:00:00Z","last_seq":0,)'
        ),
        r"\g<1>0\2",
    ),
    (
        "nats-server says of such a file stream that sequence 0 was deleted",
        re.compile(r'"num_deleted":1,"deleted":\[0\],'),
        "",
    ),
)


class Asker:
    """One broker, asked over several connections; the names in steps get the prefix of a run."""

    def __init__(self, broker: Broker) -> None:
        self.kind = broker.kind
        self._broker = broker
        self._connect()
        self._clients[0].create(LASTING_STREAM, subjects=["lasting"])

    def _connect(self) -> None:
        self._raw: list[RawClient] = [
            self._broker.connect().handshake(headers=True, no_responders=True) for _ in range(CONNECTIONS)
        ]
        self._clients = [JetStreamClient(client) for client in self._raw]

    def close(self) -> None:
        for client in self._raw:
            client.close()

    def stop(self) -> None:
        """Close the connections and stop the broker."""
        self.close()
        self._broker.stop()

    def restart(self) -> None:
        """Stop the broker, start it again and connect again."""
        self.stop()
        self._broker.start_again()
        self._connect()

    def ask(self, step: Step, prefix: str) -> tuple[str, Answer | None]:
        """Return the normalised answers to a step as text, and the first one as it came."""
        client = self._clients[step.connection]
        try:
            answers = client.ask(
                step.subject.replace(MARK, prefix),
                step.payload.replace(MARK, prefix).encode(),
                [(name, value.replace(MARK, prefix)) for name, value in step.headers],
                is_end_of_batch if step.is_batch else is_first,
                SILENCE_S,
            )
        except AssertionError as error:
            if "the server closed" in str(error):
                raise
            return "silence", None
        text = "\n".join((answer.headers + answer.payload).decode() for answer in answers)
        return normalise(text, prefix), answers[0]

    def run(self, steps: Sequence[Step], prefix: str) -> Transcript:
        """Ask all of them and leave none of their streams behind."""
        transcript = self.ask_all(steps, prefix)
        self.delete_streams()
        return transcript

    def ask_all(self, steps: Sequence[Step], prefix: str) -> Transcript:
        """Return the normalised answers to steps."""
        return [self.ask(step, prefix)[0] for step in steps]

    def delete_streams(self) -> None:
        client = self._clients[0]
        for name in client.api("STREAM.NAMES")["streams"] or []:
            if name != LASTING_STREAM:
                client.api(f"STREAM.DELETE.{name}")


def normalise(text: str, prefix: str) -> str:
    """Return an answer without what may differ, and with MARK for the prefix of the run."""
    text = text.replace(prefix, MARK)
    for _, pattern, replacement in DIFFERENCES:
        text = pattern.sub(replacement, text)
    return text


def record(oracle: Asker, seed: int, count: int) -> tuple[list[Step], Transcript]:
    """Make `count` steps, guided by what the oracle answers, and return them with its answers.

    The streams that they leave stay; see delete_streams.
    """
    generator = Generator(seed)
    steps: list[Step] = []
    transcript: Transcript = []
    prefix = prefix_of(seed)
    for _ in range(count):
        step = generator.next()
        text, first = oracle.ask(step, prefix)
        generator.learn(step, _json_of(first, prefix))
        steps.append(step)
        transcript.append(text)
    return steps, transcript


def reading_steps(steps: Sequence[Step], message_count: int) -> list[Step]:
    """Return steps that read what other steps may have left: of every stream its state and first messages."""
    names = sorted(
        {
            step.subject.rsplit(".", 1)[1]
            for step in steps
            if step.subject.startswith("$JS.API.STREAM.CREATE.")
        }
    )
    reading = [Step("$JS.API.STREAM.NAMES"), Step("$JS.API.STREAM.LIST"), Step("$JS.API.INFO")]
    for name in names:
        info = {"deleted_details": True, "subjects_filter": ">"}
        reading.append(Step(f"$JS.API.STREAM.INFO.{name}", json.dumps(info)))
        for sequence in range(1, message_count + 1):
            body = {"seq": sequence, "next_by_subj": ">"}
            reading.append(Step(f"$JS.API.STREAM.MSG.GET.{name}", json.dumps(body)))
    return reading


def first_difference(one: Transcript, other: Transcript) -> int | None:
    """Return the index of the first answer that differs."""
    for index, (left, right) in enumerate(zip(one, other, strict=True)):
        if left != right:
            return index
    return None


def shrink(steps: Sequence[Step], differs: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """Return few of the steps, in order, for which `differs` is still true.

    Args:
        steps: they do differ; the last one shows it.
    """
    kept = list(steps)
    size = len(kept) // 2
    runs = 0
    while size:
        start = 0
        while start < len(kept) - 1 and runs < SHRINK_RUNS_MAX:
            fewer = kept[:start] + kept[min(start + size, len(kept) - 1) :]
            runs += 1
            if differs(fewer):
                kept = fewer
            else:
                start += size
        size //= 2
    return kept


def explain(oracle: Asker, other: Asker, steps: Sequence[Step], index: int) -> str:
    """Return what differs first, after as few steps as could be found, as text to read and replay."""
    numbers = itertools.count(FIRST_SHRINK_RUN)

    def run_both(some: Sequence[Step]) -> tuple[Transcript, Transcript]:
        prefix = prefix_of(next(numbers))
        return oracle.run(some, prefix), other.run(some, prefix)

    def differs(some: Sequence[Step]) -> bool:
        one, two = run_both(some)
        return one[-1] != two[-1]

    all_steps = steps[: index + 1]
    if not differs(all_steps):
        return f"once, at {all_steps[-1].to_json()}; it did not show again"
    few = shrink(all_steps, differs)
    one, two = run_both(few)
    lines = "\n".join(step.to_json() for step in few)
    return f"{oracle.kind}: {one[-1]}\n{other.kind}: {two[-1]}\nafter these steps:\n{lines}"


def prefix_of(number: int) -> str:
    """Return the prefix of names in one run, in no other text of a step, and of one length for all."""
    return f"Q{number:04d}q"


def replay(oracle: Asker, other: Asker, lines: str) -> tuple[Transcript, Transcript]:
    """Run the lines of explain() again and return what both answer."""
    steps = [Step(**json.loads(line)) for line in lines.splitlines()]
    prefix = prefix_of(0)
    return oracle.run(steps, prefix), other.run(steps, prefix)


def _json_of(answer: Answer | None, prefix: str) -> dict[str, Any] | None:
    if answer is None or not answer.payload.startswith(b"{"):
        return None
    fields = json.loads(answer.payload.decode().replace(prefix, MARK))
    return fields if isinstance(fields, dict) else None
