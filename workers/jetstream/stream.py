"""One stream on the worker that owns it: its store, what listens for it, and what the API asks of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from storage import queries
from storage.subjects import SubjectFilter
from workers.jetstream import apierrors, gojson, stream_json
from workers.jetstream.consumers import Consumers
from workers.jetstream.direct import DirectGet
from workers.jetstream.followers import Followers
from workers.jetstream.ingest import StreamIngest
from workers.jetstream.mirrors import Mirror
from workers.jetstream.publishing import Publisher
from workers.jetstream.sources import Kept, Sources
from workers.jetstream.stream_config import MEMORY, PERSIST_ASYNC, StreamConfig

if TYPE_CHECKING:
    from storage.stream import StreamStore
    from workers.jetstream.account import Account
    from workers.jetstream.engine import JetStream
    from workers.jetstream.mesh import Body, Result

EXPIRE_BATCH = 1000
"""Messages taken out at a time when their time is over, so that nobody waits long for it."""
DELETED_MAX = 1 << 16
"""Deleted sequences that an answer names at most."""


def definition(account: str, config: StreamConfig, created_ns: int, progress: Kept | None = None) -> bytes:
    """Return what the store keeps beside a stream, so that it can be opened again.

    Args:
        progress: how far its sources have got.
    """
    kept = {"account": account, "created": created_ns, "config": config.to_json()}
    return orjson.dumps(kept | {"progress": progress} if progress else kept)


def read_definition(data: bytes) -> tuple[str, StreamConfig, int]:
    """Return account, configuration and time of creation from what `definition` made.

    Raises:
        ValueError: it is something else.
    """
    try:
        values = orjson.loads(data)
        config = StreamConfig.from_members(values["config"])
        return str(values["account"]), config, int(values["created"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"no definition of a stream: {error}") from error


class Stream:
    """A stream that this worker owns."""

    def __init__(
        self, engine: JetStream, account: Account, config: StreamConfig, created_ns: int, store: StreamStore
    ) -> None:
        """Take over a store; `listen` lets messages in."""
        self.engine = engine
        self.account = account.index
        self.account_name = account.name
        self.name = config.name
        self.config = config
        self.store = store
        self.created_ns = created_ns
        self.is_memory = config.storage == MEMORY
        self.publisher = Publisher(self)
        self.ingest = StreamIngest(self)
        self.direct = DirectGet(self)
        self.consumers = Consumers(self)
        self.mirror: Mirror | None = None
        self.sources = Sources(self)
        self.followers = Followers(store, engine.now_ns)
        self.damage_told = 0
        self._listeners: dict[str, int] = {}
        self._direct_listeners: list[int] = []

    @property
    def is_durable(self) -> bool:
        """Whether acknowledgements wait until the message is on stable storage."""
        return not self.is_memory and self.config.persist_mode != PERSIST_ASYNC

    @property
    def expires(self) -> bool:
        """Whether messages of this stream may end by themselves."""
        return bool(self.config.max_age or self.config.allow_msg_ttl or self.config.allow_msg_schedules)

    # ---- what listens

    def listen(self) -> None:
        """Let in what the configuration says, and nothing else."""
        plane = self.engine.plane
        wanted = set(self.config.subjects)
        for subject in [subject for subject in self._listeners if subject not in wanted]:
            plane.unlisten(self._listeners.pop(subject))
        for subject in self.config.subjects:
            if subject not in self._listeners:
                self._listeners[subject] = plane.listen(
                    self.account, subject.encode(), self.ingest, is_sticky=True
                )
        self.consumers.listen()
        if self.config.allow_direct and not self._direct_listeners:
            for prefix in self.engine.api_prefixes:
                for end in (b"", b".>"):
                    subject_text = prefix + b"DIRECT.GET." + self.name.encode() + end
                    self._direct_listeners.append(plane.listen(self.account, subject_text, self.direct))
        elif not self.config.allow_direct:
            self._stop_direct()
        if self.engine.is_joined:
            self.follow()

    def follow(self) -> None:
        """Take messages from the streams that the configuration names, and from no other."""
        wanted = self.config.mirror
        if self.mirror is not None and self.mirror.source != wanted:
            self.mirror.close()
            self.mirror = None
        if wanted is not None and self.mirror is None:
            self.mirror = Mirror(self, wanted)
            self.mirror.start()
        self.sources.configure()
        if self.sources and not self.is_memory:
            self.engine.sourcing.add(self)
        else:
            self.engine.sourcing.discard(self)

    def kept_progress(self) -> Kept:
        """Return how far the sources had got when that was written; {}: nothing is known."""
        if self.is_memory:
            return {}
        kept = self.engine.store.streams[self.engine.store_name(self)].control.definition
        progress: Kept = orjson.loads(kept).get("progress", {})
        return progress

    def keep_progress(self) -> None:
        """Write how far the sources have got, if that has to be known before the next commit.

        Raises:
            StorageError: it could not be stored.
        """
        if self.sources.wants_keeping():
            engine = self.engine
            kept = definition(self.account_name, self.config, self.created_ns, self.sources.progress())
            engine.store.update_stream(engine.store_name(self), kept, self.config.limits())

    def listen_direct(self, name: str) -> list[int]:
        """Answer direct gets for a stream of this name; return the listeners."""
        ends = (b"", b".>")
        subjects = [
            b"%bDIRECT.GET.%b%b" % (p, name.encode(), end) for p in self.engine.api_prefixes for end in ends
        ]
        return [self.engine.plane.listen(self.account, subject, self.direct) for subject in subjects]

    def _stop_direct(self) -> None:
        while self._direct_listeners:
            self.engine.plane.unlisten(self._direct_listeners.pop())

    def close(self, reason: str = "Server Shutdown") -> None:
        """Let nothing in any more; who waits for messages is told the reason."""
        for listener in self._listeners.values():
            self.engine.plane.unlisten(listener)
        self._listeners.clear()
        self._stop_direct()
        self.engine.sourcing.discard(self)
        self.sources.close()
        if self.mirror is not None:
            self.mirror.close()
        self.consumers.close(409, reason)
        self.publisher.close()

    # ---- what publishing asks

    def acknowledge(self, reply: bytes, body: bytes) -> None:
        """Answer a publisher when everything appended so far is as durable as the stream promises."""
        if reply and not self.config.no_ack:
            waits = self.is_durable and not self.engine.has_failed
            self.engine.acks.acknowledge(self.account, reply, body, waits)

    def send_now(self, reply: bytes, body: bytes, headers: bytes = b"") -> None:
        """Send something that waits for nothing."""
        if reply:
            self.engine.plane.publish(self.account, reply, body, headers=headers)

    @property
    def overload_answer(self) -> bytes:
        """What a publisher gets while the store is too far behind."""
        error = apierrors.stream_too_many_requests().to_json()
        return gojson.encode({"error": error, "stream": self.name, "seq": 0})

    def confirm(self, reply: bytes) -> None:
        """Answer an acknowledgement of a message when it is as durable as the stream promises."""
        self.engine.acks.acknowledge(self.account, reply, b"", self.is_durable)

    def has_consumer_interest(self, subject: bytes) -> bool:
        """Return whether a consumer, or a stream that follows this one, wants this subject."""
        return self.consumers.has_interest(subject) or self.followers.wants_subject(subject)

    async def durable(self) -> None:
        """Return when everything done so far is as durable as it gets.

        Raises:
            ApiError: 10077, the store has failed.
        """
        if not self.is_memory:
            await self.engine.durable()

    def answer_when_durable(self, answer: Body) -> Result:
        """As JetStream.answer_when_durable; a stream in memory waits for nothing."""
        return answer if self.is_memory else self.engine.answer_when_durable(answer)

    # ---- what the API asks

    def info(
        self,
        *,
        is_listed: bool = False,
        has_details: bool = False,
        subjects: dict[str, int] | None = None,
        domain: str = "",
        leader: str = "",
    ) -> dict[str, object]:
        """Return the stream's information.

        Args:
            is_listed: lists do not show the server's versions in the metadata.
            has_details: whether deleted sequences are named.
            subjects: messages by subject, if asked for.
            domain, leader: shown if given.
        """
        state = stream_json.stream_state(
            self.store.state(),
            subjects=subjects,
            deleted=self.store.deleted(DELETED_MAX) if has_details else None,
            consumer_count=self.consumers.count,
        )
        return stream_json.stream_info(
            self.config,
            created_ns=self.created_ns,
            state=state,
            now_ns=self.engine.now_ns(),
            domain=domain,
            version=None if is_listed else self.engine.config.version,
            leader=leader,
            mirror=self.mirror.info() if self.mirror is not None else None,
            sources=self.sources.info(),
        )

    def subject_counts(self, pattern: str) -> dict[str, int]:
        """Return how many messages each subject has that matches a pattern."""
        subjects = SubjectFilter(self.store.subjects, (pattern.encode(),))
        counts = queries.subject_counts(self.store, subjects)
        return {subject.decode(errors="replace"): count for subject, count in counts.items()}

    def update(self, config: StreamConfig) -> None:
        """Take a configuration that has been checked.

        Raises:
            StorageError: it could not be stored.
        """
        engine = self.engine
        if self.is_memory:
            self.store.apply_limits(config.limits())
            self.store.enforce_limits()
        else:
            kept = definition(self.account_name, config, self.created_ns, self.sources.progress())
            engine.store.update_stream(engine.store_name(self), kept, config.limits())
        retention = self.config.retention
        self.config = config
        if config.retention != retention:
            self.consumers.follow_retention()
        self.publisher.configure()
        self.ingest.configure()
        self.consumers.removed()
        self.listen()

    def expire(self) -> None:
        """Take out messages whose time is over and leave a marker where the stream wants one."""
        engine = self.engine
        if engine.streams.get((self.account, self.name)) is not self or self.store.failure is not None:
            return
        if self.publisher.expire(engine.now_ns(), EXPIRE_BATCH):
            self.consumers.removed()
            engine.commit_soon()
            # There may be more; whatever else is to be done comes first.
            engine.later(0, self.expire)
