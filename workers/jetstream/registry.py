"""What this worker does with its streams when the directory asks, and how directories learn who has what."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from storage.errors import StorageError
from workers.jetstream import apierrors, consumer_rules
from workers.jetstream.apierrors import ApiError
from workers.jetstream.stream_config import MEMORY, StreamConfig
from workers.jetstream.stream_update import is_same

if TYPE_CHECKING:
    from workers.jetstream.engine import JetStream

Body = dict[str, Any]

PAGE = 256
"""Streams told in one message."""


class Registry:
    """The methods that other workers call about streams that live here."""

    def __init__(self, engine: JetStream) -> None:
        """Prepare; `start` begins to serve."""
        self._engine = engine
        self._joining: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Let others call."""
        serve = self._engine.mesh.serve
        serve("stream.create", self._create)
        serve("stream.created", self._created)
        serve("stream.update", self._update)
        serve("stream.delete", self._delete)
        serve("stream.infos", self._infos)
        serve("streams", self._page_of_streams)
        serve("announce", self._announced)
        serve("usage", self._usage)

    # ---- changes, as the directory allowed them

    async def _create(self, body: Body) -> Body:
        engine = self._engine
        config = StreamConfig.from_members(body["config"])
        existing = engine.streams.get((body["account"], config.name))
        if existing is not None:
            # Asked a second time, because this worker died before it could answer.
            if not is_same(existing.config, config):
                raise apierrors.stream_name_exist()
            return existing.info()
        stream = engine.create_stream(engine.accounts[body["account"]], config)
        try:
            await stream.durable()
        except ApiError:
            stream.close()
            del engine.streams[stream.account, stream.name]
            raise
        stream.listen()
        engine.advisories.stream_action(stream.account, stream.name, "create")
        return stream.info()

    def _created(self, body: Body) -> Body:
        return self._engine.stream(body["account"], body["stream"]).info()

    async def _update(self, body: Body) -> Body:
        engine = self._engine
        stream = engine.stream(body["account"], body["stream"])
        config = StreamConfig.from_members(body["config"])
        consumers = [(one.name, one.config) for one in stream.consumers.all()]
        consumer_rules.check_stream_update(stream.config, config, consumers)
        try:
            stream.update(config)
        except StorageError as error:
            raise apierrors.stream_update(error) from error
        await stream.durable()
        engine.advisories.stream_action(stream.account, stream.name, "modify")
        return stream.info(domain=engine.config.js_domain)

    async def _delete(self, body: Body) -> Body:
        engine = self._engine
        stream = engine.stream(body["account"], body["stream"])
        engine.delete_stream(stream)
        await stream.durable()
        engine.advisories.stream_action(stream.account, stream.name, "delete")
        return {}

    # ---- questions

    def _infos(self, body: Body) -> Body:
        streams, domain = self._engine.streams, self._engine.config.js_domain
        found = ((name, streams.get((body["account"], name))) for name in body["streams"])
        return {
            "infos": {
                name: stream.info(is_listed=True, domain=domain)
                for name, stream in found
                if stream is not None
            }
        }

    def _usage(self, body: Body) -> Body:
        """Return what an account uses on this worker."""
        account = self._engine.accounts[body["account"]]
        usage = {
            "memory": 0,
            "storage": 0,
            "reserved_memory": 0,
            "reserved_storage": 0,
            "streams": 0,
            "consumers": 0,
            "api_total": account.api_total,
            "api_errors": account.api_errors,
        }
        for (index, _), stream in self._engine.streams.items():
            if index != account.index:
                continue
            kind = "memory" if stream.config.storage == MEMORY else "storage"
            usage[kind] += stream.store.bytes
            usage[f"reserved_{kind}"] += max(0, stream.config.max_bytes)
            usage["streams"] += 1
            usage["consumers"] += stream.consumers.count
        return usage

    # ---- who has what

    def join(self) -> None:
        """Fill the directories that are here from everybody's streams; tell the others' what is here."""
        self._joining = asyncio.ensure_future(self._join(), loop=asyncio.get_running_loop())

    def close(self) -> None:
        """Stop joining."""
        if self._joining is not None:
            self._joining.cancel()

    async def _join(self) -> None:
        engine = self._engine
        async with asyncio.TaskGroup() as group:
            for account in engine.accounts.values():
                place = engine.ownership.directory(account.name)
                if place == engine.mesh.worker:
                    group.create_task(self._fill(account.index))
                else:
                    group.create_task(self._tell(account.index, place))

    async def _fill(self, account: int) -> None:
        """Ask every worker for its streams; until all have answered, calls to the directory wait."""
        workers = range(self._engine.config.worker_count)
        await asyncio.gather(*(self._fill_from(account, worker) for worker in workers))
        self._engine.directory(account).loaded.set()

    async def _fill_from(self, account: int, worker: int) -> None:
        after: str | None = ""
        while after is not None:
            try:
                page = await self._engine.mesh.call(worker, "streams", {"account": account, "after": after})
            except ApiError:  # it is being restarted: ask again, from the beginning
                after = ""
                continue
            self._take_page(account, worker, page, is_first=not after)
            after = page["next"]

    async def _tell(self, account: int, directory: int) -> None:
        after: str | None = ""
        while after is not None:
            page = self._page_of_streams({"account": account, "after": after})
            body = {"account": account, "worker": self._engine.mesh.worker, "is_first": not after, **page}
            try:
                await self._engine.mesh.call(directory, "announce", body)
            except ApiError:  # when it is back it will ask
                return
            after = page["next"]

    def _page_of_streams(self, body: Body) -> Body:
        """Return some of the streams here, those after a name, and the name to go on from, None: no more."""
        names = sorted(
            name
            for account, name in self._engine.streams
            if account == body["account"] and name > body["after"]
        )
        page = [self._engine.streams[body["account"], name].config.to_json() for name in names[:PAGE]]
        return {"streams": page, "next": names[PAGE - 1] if len(names) > PAGE else None}

    def _announced(self, body: Body) -> Body:
        self._take_page(body["account"], body["worker"], body, is_first=body["is_first"])
        return {}

    def _take_page(self, account: int, worker: int, page: Body, *, is_first: bool) -> None:
        configs = [StreamConfig.from_members(members) for members in page["streams"]]
        found = {config.name: config for config in configs}
        self._engine.directory(account).announced(worker, found, is_first=is_first)
