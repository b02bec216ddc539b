"""The consumers of one stream, and what they mean for its messages where interest keeps them."""

from __future__ import annotations

import secrets
import string
from typing import TYPE_CHECKING

from storage import queries
from storage.consumer import ConsumerStore
from storage.subjects import SubjectFilter
from workers.jetstream import apierrors, consumer_advisories
from workers.jetstream.ack_sink import AckSink
from workers.jetstream.audience import Audience
from workers.jetstream.consumer import ACK_POLICIES, RETENTIONS, Consumer, definition, read_definition
from workers.sinks import CallSink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from storage.control import ControlLog
    from workers.jetstream.consumer_backups import BackedUpConsumer
    from workers.jetstream.consumer_config import ConsumerConfig
    from workers.jetstream.stream import Stream

NAME_LETTERS = 8
WANTED_STEP = 64
"""Messages of a restored stream for which all its consumers are asked at a time."""
MESSAGE_REMOVED = "Message deleted by stream limits"
"""Why a message is given up that was removed, whoever removed it."""
_LETTERS = string.digits + string.ascii_letters


class Consumers:
    """A stream's consumers by name."""

    def __init__(self, stream: Stream) -> None:
        """Begin with none; `recover` brings back what the store knows."""
        self.stream = stream
        self.audience = Audience(stream.store)
        self.ack_sink = AckSink(stream)
        self._by_name: dict[str, Consumer] = {}
        self._internal_count = 0
        self._listeners: list[int] = []
        self._flow_listener = 0

    def __len__(self) -> int:
        """Return how many there are, internal ones included."""
        return len(self._by_name)

    @property
    def count(self) -> int:
        """How many there are in the eyes of clients."""
        return len(self._by_name) - self._internal_count

    def get(self, name: str) -> Consumer | None:
        """Return a consumer, or None."""
        return self._by_name.get(name)

    def names(self) -> list[str]:
        """Return the names that clients see, sorted."""
        return sorted(consumer.name for consumer in self.shown())

    def shown(self) -> list[Consumer]:
        """Return the consumers that clients see, those made first first."""
        return [consumer for consumer in self._by_name.values() if not consumer.config.direct]

    def all(self) -> Iterable[Consumer]:
        """Return all consumers; none may come or go while one goes through them."""
        return self._by_name.values()

    # ---- life

    def _control(self) -> ControlLog | None:
        """Return the log that keeps this stream's consumers; None: it is in memory."""
        if self.stream.is_memory:
            return None
        engine = self.stream.engine
        return engine.store.streams[engine.store_name(self.stream)].control

    def recover(self) -> None:
        """Bring the consumers back that the store knows."""
        control = self._control()
        if control is None:
            return
        for name, state in sorted(control.consumers.items()):
            try:
                config, created_ns = read_definition(state.definition)
            except ValueError as error:
                self.stream.engine.log.error(
                    f"JetStream: consumer {name!r} of {self.stream.name!r} is left alone: {error}"
                )
                continue
            consumer = Consumer(self, name, config, created_ns, state)
            consumer.core.skip_to(state.delivered_stream + 1)
            self._add(consumer)

    def _add(self, consumer: Consumer) -> None:
        self._by_name[consumer.name] = consumer
        self._internal_count += consumer.config.direct

    def listen(self) -> None:
        """Let acknowledgements and requests in."""
        if not self._listeners and self._by_name:
            engine, stream = self.stream.engine, self.stream
            for subject in (
                b"$JS.ACK.%b.>" % stream.name.encode(),
                b"$JS.ACK.*.*.%b.>" % stream.name.encode(),
            ):
                listener = engine.plane.listen(stream.account, subject, self.ack_sink, is_sticky=True)
                self._listeners.append(listener)
            for consumer in self._by_name.values():
                consumer.listen()

    def listen_for_flow(self) -> None:
        """Take what clients answer to flow control, for all consumers together.

        A pattern that comes or goes makes every route of the account stale, and consumers with flow control
        come and go with every watcher of a bucket.
        """
        if not self._flow_listener:
            subject = b"$JS.FC.%b.>" % self.stream.name.encode()
            self._flow_listener = self.stream.engine.plane.listen(
                self.stream.account, subject, CallSink(self._take_flow), is_sticky=True
            )

    def _take_flow(self, subject: bytes, _reply: bytes, headers: bytes, _payload: bytes, _: int) -> None:
        consumer = self._by_name.get(subject.split(b".")[3].decode(errors="replace"))
        if consumer is not None and consumer.push is not None:
            consumer.push.flow_confirmed(subject, headers)

    def close(self, code: int = 0, text: str = "") -> None:
        """Let nothing in any more; waiting requests are told `code` and `text`, if any."""
        for consumer in self._by_name.values():
            consumer.close(code, text)
        while self._listeners:
            self.stream.engine.plane.unlisten(self._listeners.pop())
        if self._flow_listener:
            self.stream.engine.plane.unlisten(self._flow_listener)
            self._flow_listener = 0

    def end_requests(self, code: int, text: str) -> None:
        """Tell everybody who waits for messages that none will come."""
        for consumer in self._by_name.values():
            if consumer.pull is not None:
                consumer.pull.end_all(code, text, tells_rest=True)

    def create(self, config: ConsumerConfig) -> Consumer:
        """Make a consumer of a configuration that has been checked, and whose name is free.

        Raises:
            StorageError: it could not be stored.
        """
        engine = self.stream.engine
        name = config.called or self._free_name()
        created_ns = engine.now_ns()
        state = self._new_state(name, config, created_ns)
        consumer = Consumer(self, name, config, created_ns, state)
        self._add(consumer)
        consumer.start()
        if state.control is not None:
            # Now, because the disk takes longer than all the rest.
            engine.commit()
        if self._listeners:
            consumer.listen()
        else:
            self.listen()
        engine.pump_soon()
        consumer_advisories.action(consumer, "create")
        return consumer

    def _new_state(self, name: str, config: ConsumerConfig, created_ns: int) -> ConsumerStore:
        """Make the state of a new consumer, in the store if it is kept there."""
        control = None if config.mem_storage else self._control()
        policy = ACK_POLICIES[config.ack_policy]
        if control is None:
            return ConsumerStore(name, 0, policy, b"")
        return control.add_consumer(name, policy, definition(config, created_ns))

    def restore(self, backed_up: BackedUpConsumer) -> Consumer:
        """Bring a consumer of a backup back, whose name is free; `listen` lets it deliver.

        Raises:
            StorageError: it could not be stored.
        """
        name, config, now_ns = backed_up.name, backed_up.config, self.stream.engine.now_ns()
        created_ns = backed_up.created_ns or now_ns
        pending = backed_up.state["pending"]
        state = self._new_state(name, config, created_ns)
        # A time to come is how a backup tells that a message waits longer than usual.
        known = {sequence: (number, min(ts_ns, now_ns)) for sequence, (number, ts_ns) in pending.items()}
        state.set_state({**backed_up.state, "pending": known})
        control = None if config.mem_storage else self._control()
        if control is not None:
            control.keep_state(state)
        consumer = Consumer(self, name, config, created_ns, state)
        for sequence, (_, ts_ns) in pending.items():
            if ts_ns > now_ns:
                consumer.delay(sequence, ts_ns + consumer.ack_wait_ns(consumer.core.deliveries(sequence)))
        self._add(consumer)
        return consumer

    def _free_name(self) -> str:
        while True:
            name = "".join(secrets.choice(_LETTERS) for _ in range(NAME_LETTERS))
            if name not in self._by_name:
                return name

    def keep(self, consumer: Consumer) -> None:
        """Store a consumer's changed configuration; it is durable with the next commit."""
        control = None if consumer.config.mem_storage else self._control()
        if control is not None:
            policy = ACK_POLICIES[consumer.config.ack_policy]
            control.add_consumer(consumer.name, policy, definition(consumer.config, consumer.created_ns))

    def delete(self, name: str) -> None:
        """End a consumer; that is durable with the next commit, which is the caller's business.

        Raises:
            ApiError: 10014, there is none of this name.
        """
        consumer = self._by_name.pop(name, None)
        if consumer is None:
            raise apierrors.consumer_not_found()
        self._internal_count -= consumer.config.direct
        consumer.close(409, "Consumer Deleted")
        control = None if consumer.config.mem_storage else self._control()
        if control is not None:
            control.remove_consumer(name)
        if self.stream.config.retention == "interest":
            self._drop_unwanted_after(consumer)
            self.stream.engine.commit_soon()
        consumer_advisories.action(consumer, "delete")

    # ---- messages

    def appended(self) -> None:
        """Have those pumped that wait for something new; what is new may have removed something old."""
        if self._by_name:
            self.removed()
            self.audience.wake()

    def removed(self) -> None:
        """Forget what was delivered and is no longer there, if anything went."""
        if not self.audience.lost_messages():
            return
        for core in self.audience.holding():
            for gone in core.drop_gone():
                consumer_advisories.terminated(self._by_name[core.name], *gone, MESSAGE_REMOVED)
        self.stream.engine.pump_soon()

    def has_interest(self, subject: bytes) -> bool:
        """Return whether a consumer wants messages of this subject."""
        return self.audience.wants_subject(subject)

    def acknowledged(self, by: Consumer, sequence: int) -> None:
        """Remove a message that a consumer is done with, if no other one wants it."""
        if not self.audience.is_wanted(sequence, by.core) and not self.stream.followers.wants(sequence):
            self._remove(sequence)

    def followed(self, sequence: int) -> None:
        """Remove a message that a stream following this one has stored, if nobody else wants it."""
        if not self.audience.is_wanted(sequence) and not self.stream.followers.wants(sequence):
            self._remove(sequence)

    def _remove(self, sequence: int) -> None:
        if self.stream.store.delete(sequence):
            self.audience.acknowledged += 1

    def follow_retention(self) -> None:
        """Take over how the stream keeps messages; what nobody wants goes when only interest keeps them."""
        stream = self.stream
        for consumer in self._by_name.values():
            consumer.core.mode = RETENTIONS[stream.config.retention]
        if stream.config.retention == "interest":
            self._drop_unwanted(SubjectFilter(stream.store.subjects, (b">",)), stream.store.first_sequence)

    def filters_changed(self, consumer: Consumer) -> None:
        """Remove what only a consumer's old filters matched, where interest keeps messages.

        What it has given up stays, as in a nats-server that was not restarted meanwhile.
        """
        if self.stream.config.retention == "interest":
            everything = SubjectFilter(self.stream.store.subjects, (b">",))
            core = consumer.core
            self._drop_unwanted(everything, next(iter(core.state.pending), core.last_looked_at + 1))
            self.removed()

    def drop_acknowledged(self) -> Iterator[None]:
        """Remove what restored consumers are done with, where that ends messages; a step takes 1 ms at most.

        A message may have been acknowledged after a backup had read it.
        """
        store = self.stream.store
        if self.stream.config.retention == "limits":
            return
        for consumer in self.all():
            following = consumer.core.last_looked_at + 1
            found = queries.find_all(store, consumer.filter(), store.first_sequence)
            for start in range(0, len(found), WANTED_STEP):
                if found[start] >= following:
                    break
                store.delete_many(
                    [
                        int(sequence)
                        for sequence in found[start : start + WANTED_STEP]
                        if not self.audience.is_wanted(int(sequence))
                    ]
                )
                yield

    def _drop_unwanted_after(self, gone: Consumer) -> None:
        """Remove the messages that only a deleted consumer wanted."""
        self._drop_unwanted(gone.filter(), gone.core.state.floor_stream + 1)

    def _drop_unwanted(self, subjects: SubjectFilter, first: int) -> None:
        store = self.stream.store
        unwanted = [
            int(sequence)
            for sequence in queries.find_all(store, subjects, max(first, store.first_sequence))
            if not self.audience.is_wanted(int(sequence)) and not self.stream.followers.wants(int(sequence))
        ]
        store.delete_many(unwanted)
