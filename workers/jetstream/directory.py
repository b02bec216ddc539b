"""The directory of an account's streams: which exist, how they are configured, whether another may be made.

It lives on one worker, asked by all; the streams themselves live on their owners. Changes of one stream come
one after the other here; changes of several run at once, each with its name, subjects and bytes reserved
from the moment it was allowed. The directory keeps nothing on disk: when its worker starts it asks every
worker for the streams it has, and a worker that starts tells its own.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.jetstream import apierrors, stream_checks, stream_sources, stream_update
from workers.jetstream.apierrors import ApiError
from workers.jetstream.stream_config import FILE, MEMORY, StreamConfig
from workers.jetstream.subject_index import SubjectIndex
from workers.jetstream.subjects import collides, overlap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workers.jetstream.account import Account
    from workers.jetstream.engine import JetStream

Body = dict[str, Any]


@dataclass(slots=True)
class Entry:
    """A stream that exists or is being made."""

    config: StreamConfig
    owner: int


class Directory:
    """The streams of one account."""

    def __init__(self, engine: JetStream, account: Account) -> None:
        """Begin empty; calls wait until `loaded` has been set."""
        self.loaded = asyncio.Event()
        self._engine = engine
        self._account = account
        self._entries: dict[str, Entry] = {}
        self._subjects = SubjectIndex()
        self._reserved = {MEMORY: 0, FILE: 0}
        # Streams that a change is on its way for; of those, the ones that are not there yet.
        self._pending: set[str] = set()
        self._making: set[str] = set()
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    # ---- what there is

    def announced(self, owner: int, streams: dict[str, StreamConfig], *, is_first: bool) -> None:
        """Take in what a worker says that it has.

        Args:
            is_first: what it had before is forgotten; more of the same worker may follow with False.
        """
        if is_first:
            for name in [name for name, entry in self._entries.items() if entry.owner == owner]:
                if name not in self._pending:
                    self._drop(name)
        for name, config in streams.items():
            if name not in self._pending:
                self._put(config, owner)

    def names(self, subject: str = "") -> list[str]:
        """Return the sorted names of streams, of those only whose subjects meet `subject` if one is given."""
        return sorted(
            name
            for name, entry in self._entries.items()
            if name not in self._making
            and (not subject or any(collides(subject, one) for one in entry.config.subjects))
        )

    def lookup(self, name: str) -> StreamConfig | None:
        """Return a stream's configuration, None if there is no such stream."""
        entry = self._entries.get(name)
        return entry.config if entry else None

    def owner_of(self, name: str) -> int:
        """Return the worker that has a stream."""
        return self._entries[name].owner

    def reserved(self) -> tuple[int, int]:
        """Return the bytes promised to streams in memory and in files."""
        return self._reserved[MEMORY], self._reserved[FILE]

    def _put(self, config: StreamConfig, owner: int) -> None:
        """Note a stream, or its new configuration."""
        self._drop(config.name)
        self._entries[config.name] = Entry(config, owner)
        self._reserved[config.storage] += max(0, config.max_bytes)
        for subject in config.subjects:
            self._subjects.add(subject, config.name)

    def _drop(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        if entry is None:
            return
        self._reserved[entry.config.storage] -= max(0, entry.config.max_bytes)
        for subject in entry.config.subjects:
            self._subjects.remove(subject, name)

    # ---- changes

    async def create(self, config: StreamConfig, *, is_pedantic: bool) -> Body:
        """Make a stream, or say that there is the very same already; return its information.

        Raises:
            ApiError: as STREAM.CREATE answers.
        """
        await self.loaded.wait()
        self.check_room(config)
        config = self._checked(config, is_pedantic=is_pedantic)
        stream_checks.check_replicas(config)
        async with self._alone(config.name):
            existing = self._entries.get(config.name)
            if existing is not None:
                if not stream_update.is_same(existing.config, config):
                    raise apierrors.stream_name_exist()
                return await self._ask(existing.owner, "stream.created", config.name, {})
            return await self.admit(config, "stream.create", {})

    async def admit(self, config: StreamConfig, method: str, more: Body) -> Body:
        """Reserve what a new stream needs, and have its owner make it by calling one of its methods.

        Raises:
            ApiError: limits or other streams are in the way, or the owner could not make it.
        """
        self.check_room(config)
        stream_sources.check_filters(config)
        self._check_overlap(config)
        name = config.name
        owner = self._engine.ownership.owner(self._account.name, name)
        self._put(config, owner)
        self._pending.add(name)
        self._making.add(name)
        try:
            return await self._ask(owner, method, name, {"config": config.to_json(), **more})
        except ApiError:
            self._drop(name)
            raise
        finally:
            self._pending.discard(name)
            self._making.discard(name)

    async def update(self, config: StreamConfig, name: str, *, is_pedantic: bool) -> Body:
        """Change a stream's configuration; return its information.

        Args:
            name: as the request's subject has it.
        Raises:
            ApiError: as STREAM.UPDATE answers.
        """
        await self.loaded.wait()
        config = self._checked(config, is_pedantic=is_pedantic)
        if config.name != name:
            raise apierrors.stream_mismatch()
        async with self._alone(name):
            entry = self._entries.get(name)
            if entry is None:
                raise apierrors.stream_not_found()
            before = entry.config
            config = stream_update.check_update(before, config)
            self._check_bytes(config, before)
            self._check_overlap(config)
            self._put(config, entry.owner)
            self._pending.add(name)
            try:
                return await self._ask(entry.owner, "stream.update", name, {"config": config.to_json()})
            except ApiError:
                self._put(before, entry.owner)
                raise
            finally:
                self._pending.discard(name)

    async def delete(self, name: str) -> None:
        """Delete a stream.

        Raises:
            ApiError: as STREAM.DELETE answers.
        """
        await self.loaded.wait()
        async with self._alone(name):
            entry = self._entries.get(name)
            if entry is None:
                raise apierrors.stream_not_found()
            try:
                await self._ask(entry.owner, "stream.delete", name, {})
            except ApiError as error:
                if not apierrors.stream_not_found.is_kind_of(error):
                    raise
            self._drop(name)

    async def _ask(self, owner: int, method: str, name: str, more: Body) -> Body:
        body = {"account": self._account.index, "stream": name, **more}
        return await self._engine.mesh.call(owner, method, body)

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """Hold other changes of the same stream back."""
        lock, users = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(name)
            if users > 1:
                self._locks[name] = (lock, users - 1)

    # ---- checks

    def _checked(self, config: StreamConfig, *, is_pedantic: bool) -> StreamConfig:
        return stream_checks.check(config, self._engine.limits, is_pedantic=is_pedantic, lookup=self.lookup)

    def check_room(self, config: StreamConfig) -> None:
        """Refuse a stream that there is no room for in the account or on the server.

        Raises:
            ApiError: 10026, 10027, 10028 or 10047.
        """
        limit = self._account.limits.max_streams
        if 0 < limit <= sum(name != config.name for name in self._entries):
            raise apierrors.maximum_streams_limit()
        self._check_bytes(config)

    def _check_bytes(self, config: StreamConfig, before: StreamConfig | None = None) -> None:
        """Refuse a stream whose promised bytes would be too many, with all other streams' together."""
        limits = self._account.limits
        if 0 < limits.max_consumers < config.max_consumers:
            raise apierrors.maximum_consumers_limit()
        is_memory = config.storage == MEMORY
        wanted = 1 if config.max_bytes < 0 else config.max_bytes
        reserved = self._reserved[MEMORY if is_memory else FILE]
        own = self._entries.get(config.name)
        if own is not None and (own.config.storage == MEMORY) == is_memory:
            reserved -= max(0, own.config.max_bytes)
        if before is not None and max(0, config.max_bytes) <= max(0, before.max_bytes):
            wanted = max(0, config.max_bytes)
        account_limit = limits.max_memory if is_memory else limits.max_storage
        server_limit = self._engine.memory_bytes_max if is_memory else self._engine.file_bytes_max
        if 0 <= account_limit < reserved + wanted or server_limit < reserved + wanted:
            raise (
                apierrors.memory_resources_exceeded() if is_memory else apierrors.storage_resources_exceeded()
            )

    def _check_overlap(self, config: StreamConfig) -> None:
        for subject in config.subjects:
            for name in self._subjects.candidates(subject):
                if name != config.name and overlap((subject,), self._entries[name].config.subjects):
                    raise apierrors.stream_subject_overlap()
