"""Random doings with the consumers of one stream while workers and servers are killed, checked by a model.

A call that changes something is insisted on until it is answered, over kills and new connections; an
acknowledgement is sent once, and the model knows whether it was confirmed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
from collections import Counter
from typing import Any

import psutil
from support.broker import Broker
from support.jetstream_client import API_PREFIX, Headers
from support.jetstream_consumer_client import ConsumerClient, Delivery
from support.jetstream_consumer_model import KINDS, Kind, Modelled, Stored
from support.wait import wait_until

TOKENS = ("a", "b", "c")
DRAIN_TIMEOUT_S = 60
ANSWER_TIMEOUT_S = 2
EPHEMERAL = Kind("late", ("a", "c"))
NAKS = (b"-NAK", b"-NAK 50ms", b'-NAK {"delay": 20000000}', b"+WPI")


class ConsumerFaults:
    """A stream with consumers and a client of them.

    Attributes:
        done: how often each kind of step was done.
    """

    def __init__(self, broker: Broker, seed: int, retention: str) -> None:
        self.done: Counter[str] = Counter()
        self._broker = broker
        self._random = random.Random(f"{seed} {retention}")
        self._stream = f"FAULTS-{retention}"
        self._retention = retention
        self._client = ConsumerClient(broker)
        self._numbers = itertools.count()
        self._stored = Stored()
        self._by_sid: dict[int, Modelled] = {}
        config = {"name": self._stream, "subjects": [f"{self._stream}.*"], "retention": retention}
        self._insist(f"STREAM.CREATE.{self._stream}", config)
        self._consumers = [Modelled(kind, self._stored) for kind in KINDS[retention]]
        for one in self._consumers:
            self._create(one)
        self._listen()
        self._actions = {
            self._publish: 6.0,
            self._pull: 8.0,
            self._acknowledge: 12.0,
            self._refuse: 3.0,
            self._remove: 0.4,
            self._purge: 0.05,
            self._replace: 0.2 if retention != "workqueue" else 0.0,
            self._update: 0.3,
            self._check: 1.0,
        }

    def close(self) -> None:
        self._client.close()

    def step(self) -> None:
        """Do something."""
        action = self._random.choices(list(self._actions), list(self._actions.values()))[0]
        self.done[action.__name__.strip("_")] += 1
        action()

    # ---- what is done

    def _publish(self) -> None:
        """Publish; a message id makes it be stored once, however often that takes."""
        token, number = self._random.choice(TOKENS), next(self._numbers)
        headers = [("Nats-Msg-Id", f"{self._stream}.{number}")]
        answer = self._ask(f"{self._stream}.{token}", b"%d" % number, headers)
        assert self._stored.messages.setdefault(answer["seq"], (token, number)) == (token, number)

    def _pull(self) -> None:
        one = self._random.choice([one for one in self._consumers if not one.kind.is_push])
        sids = [self._pull_once(one) for _ in range(self._random.choice([1, 1, 2]))]
        for sid, count in sids:
            self._collect(sid, count)

    def _pull_once(self, one: Modelled) -> tuple[int, int]:
        count = self._random.randint(1, 8)
        body: dict[str, Any] = {"batch": count}
        if self._random.random() < 0.8:
            body["no_wait"] = True
        else:
            body["expires"] = 20_000_000
        sid = self._client.pull(self._stream, one.name, body)
        self._by_sid[sid] = one
        return sid, count

    def _collect(self, sid: int, count: int) -> None:
        """Take what a pull brings until it ends; a worker may die under it."""
        one = self._by_sid.get(sid)
        for _ in range(count):
            message = self._next(sid)
            if message is None or one is None or not message.reply:
                break
            self._take(one, sid, message)
        self._by_sid.pop(sid, None)

    def _take(self, one: Modelled, sid: int, message: Delivery) -> None:
        token = message.subject.decode().split(".")[1]
        sequence = one.took(sid, token, message.reply.decode(), int(message.payload))
        if sequence not in one.held or self._random.random() < 0.5:
            one.held[sequence] = message

    def _absorb(self) -> None:
        """Take what came beside what was awaited: it was sent before anything that comes from now on."""
        for sid, one in list(self._by_sid.items()):
            waiting = self._client.waiting[sid]
            while waiting and waiting[0].reply:
                self._take(one, sid, waiting.pop(0))

    def _acknowledge(self) -> None:
        one = self._random.choice(self._consumers)
        if not one.held:
            return
        sequence = self._random.choice(list(one.held))
        message = one.held.pop(sequence)
        payload = b"+ACK" if one.kind.acks_all else self._random.choice([b"+ACK", b"", b"+TERM"])
        if self._random.random() < 0.3:
            one.sent(sequence)
            self._client.ack(message, payload)
        else:
            self._confirm(one, sequence, message, payload)

    def _confirm(self, one: Modelled, sequence: int, message: Delivery, payload: bytes = b"+ACK") -> bool:
        """Acknowledge and wait until that is confirmed; return whether it was."""
        one.sent(sequence)
        answer = self._next(self._client.request(message.reply.decode(), payload))
        if answer is None or answer.status:
            return False
        self._absorb()
        one.confirmed(sequence)
        return True

    def _refuse(self) -> None:
        one = self._random.choice(self._consumers)
        if one.held and not one.kind.acks_all:
            message = one.held.pop(self._random.choice(list(one.held)))
            self._client.ack(message, self._random.choice(NAKS))

    def _remove(self) -> None:
        there = sorted(self._stored.of(TOKENS))
        if there:
            sequence = self._random.choice(there[-20:])
            # One that is gone already is as good.
            self._insist(f"STREAM.MSG.DELETE.{self._stream}", {"seq": sequence}, accepts=(10043, 10057))
            self._absorb()
            self._stored.removed.add(sequence)

    def _purge(self) -> None:
        token = self._random.choice(TOKENS)
        self._insist(f"STREAM.PURGE.{self._stream}", {"filter": f"{self._stream}.{token}"})
        self._absorb()
        self._stored.removed |= self._stored.of((token,))

    def _replace(self) -> None:
        """End the consumer that comes and goes, or make it again for what is new."""
        there = [one for one in self._consumers if one.kind is EPHEMERAL]
        if there:
            self._consumers.remove(there[0])
            call = f"CONSUMER.DELETE.{self._stream}.{EPHEMERAL.name}"
            self._insist(call, accepts=(10014,))
        else:
            one = Modelled(EPHEMERAL, self._stored, max(self._stored.messages, default=0))
            self._create(one, deliver_policy="new")
            self._consumers.append(one)

    def _update(self) -> None:
        one = self._random.choice([one for one in self._consumers if one.kind is not EPHEMERAL])
        one.max_ack_pending = self._random.choice([10, 20, 50])
        self._create(one)

    def _create(self, one: Modelled, **fields: object) -> None:
        config = {**one.kind.fields(self._stream), "max_ack_pending": one.max_ack_pending, **fields}
        body = {"stream_name": self._stream, "config": config}
        self._insist(f"CONSUMER.CREATE.{self._stream}.{one.name}", body)

    # ---- what is checked

    def _check(self) -> None:
        """Check every consumer's info, and what the stream keeps."""
        for one in self._consumers:
            self._check_info(one)
        self._check_kept()

    def _check_info(self, one: Modelled) -> dict[str, Any]:
        one.asking()
        info = self._insist(f"CONSUMER.INFO.{self._stream}.{one.name}")
        one.check_info(info)
        return info

    def _check_kept(self) -> None:
        """Check that what somebody wants is there, and with limits all that was not removed."""
        kept = self.kept()
        everything = self._stored.of(TOKENS)
        assert kept <= everything, f"the stream has {sorted(kept - everything)[:10]}"
        if self._retention == "limits":
            assert kept == everything, f"the stream lost {sorted(everything - kept)[:10]}"
            return
        for one in self._consumers:
            lost = one.open() - one.maybe - kept
            if one.kind.acks_all:
                lost = {sequence for sequence in lost if sequence > max(one.maybe, default=0)}
            assert not lost, f"{one.name} wants {sorted(lost)[:10]}, which the stream lost"

    def kept(self) -> set[int]:
        """Return the sequences that the stream has."""
        state = self._insist(f"STREAM.INFO.{self._stream}", {"deleted_details": True})["state"]
        if not state["messages"]:
            return set()
        return set(range(state["first_seq"], state["last_seq"] + 1)) - set(state.get("deleted") or ())

    # ---- faults

    def kill(self) -> None:
        """Kill a worker, or the supervisor, or all of them, and wait until everything is up again."""
        what = self._random.choice(("worker", "worker", "supervisor", "server"))
        self.done[f"kill {what}"] += 1
        processes = self._broker.processes()
        if what == "worker":
            os.kill(self._random.choice(self._broker.workers()).pid, signal.SIGKILL)
            psutil.wait_procs(processes[1:], timeout=0)
        elif what == "supervisor":
            self._broker.process.kill()
            self._broker.process.wait()
            wait_until(
                lambda: not any(one.is_running() for one in processes), "the workers to end", DRAIN_TIMEOUT_S
            )
            self._broker.start_again()
        else:
            self._broker.kill()
            self._broker.start_again()
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        wait_until(self._is_up, "the server to answer", DRAIN_TIMEOUT_S)
        for one in self._consumers:
            one.killed()
        self._listen()

    def _is_up(self) -> bool:
        """Whether every worker runs and the stream's answers; the client is connected anew."""
        if len(self._broker.workers()) != self._broker.worker_count:
            return False
        try:
            self._client.close()
            self._client = ConsumerClient(self._broker)
            sid = self._client.request(f"{API_PREFIX}STREAM.INFO.{self._stream}")
            return b'"state"' in self._client.next(sid, 1).payload
        except (AssertionError, OSError):
            return False

    def _listen(self) -> None:
        self._by_sid.clear()
        for one in self._consumers:
            if one.kind.is_push:
                self._by_sid[self._client.listen(one.kind.deliver_subject(self._stream))] = one

    def _next(self, sid: int) -> Delivery | None:
        """Return the next message of a subscription, or None: it does not come."""
        try:
            return self._client.next(sid, ANSWER_TIMEOUT_S)
        except (AssertionError, OSError):
            self._begin_epoch()
            return None

    # ---- calls that come to an end

    def _insist(self, call: str, body: object = None, accepts: tuple[int, ...] = ()) -> dict[str, Any]:
        """Call the API until it answers; errors of these err_codes are as good as success."""
        payload = b"" if body is None else json.dumps(body).encode()
        answer = self._ask(API_PREFIX + call, payload)
        error = answer.get("error", {})
        assert not error or error["err_code"] in accepts, f"{call}: {answer}"
        return answer

    def _ask(self, subject: str, payload: bytes, headers: Headers = ()) -> dict[str, Any]:
        """Send until there is an answer in JSON that is not a passing trouble."""
        answers: list[dict[str, Any]] = []

        def is_answered() -> bool:
            message = self._next(self._client.request(subject, payload, headers))
            if message is not None and message.payload.startswith(b"{"):
                answer = json.loads(message.payload)
                if answer.get("error", {}).get("code") != 503:
                    answers.append(answer)
            return bool(answers)

        wait_until(is_answered, f"{subject} to be answered", DRAIN_TIMEOUT_S)
        self._absorb()
        return answers[0]

    # ---- the end

    def drain(self) -> None:
        """Take and acknowledge everything; then nothing is missing, and nothing is kept that nobody wants."""
        for one in self._consumers:
            # An acknowledgement of what the broker has forgotten to have delivered is not answered.
            one.held = {sequence: held for sequence, held in one.held.items() if sequence in one.counts}
            wait_until(
                lambda one=one: self._is_drained(one), f"{one.name} to have delivered all", DRAIN_TIMEOUT_S
            )
            if one.kind.max_deliver < 0:
                missing = one.wanted() - one.seen - one.done
                assert not missing, f"{one.name} never got {sorted(missing)[:10]}"
        self._check_kept()
        if self._retention != "limits":
            given_up = [one.open() for one in self._consumers if one.kind.max_deliver > 0]
            left = self.kept() - set().union(*given_up)
            assert not left, f"the stream keeps {sorted(left)[:10]}, which nobody wants"

    def _is_drained(self, one: Modelled) -> bool:
        if not one.kind.is_push:
            sid = self._client.pull(self._stream, one.name, {"batch": 100, "no_wait": True})
            self._by_sid[sid] = one
            self._collect(sid, 100)
        held, one.held = sorted(one.held.items()), {}
        for sequence, message in held:
            self._confirm(one, sequence, message)
        info = self._check_info(one)
        return bool(info["num_pending"] == info["num_ack_pending"] == 0)
