"""Where API requests of this worker's clients come in: checked, sent to whoever answers, counted, audited.

Every worker listens to `$JS.API.>` for its own clients only, so it knows who asks. Direct gets and pull
requests are not API calls here: owners of streams and consumers listen to them, so that a missing one is seen
as no responders. A request on an unknown subject gets no answer, as from nats-server.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from workers.jetstream import api, apierrors, gojson, stream_json
from workers.jetstream.api import Call, Place
from workers.jetstream.api_requests import Request
from workers.jetstream.apierrors import ApiError
from workers.jetstream.asset_metadata import is_level_supported
from workers.jetstream.headers import get
from workers.sinks import CallSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.jetstream.account import Account
    from workers.jetstream.engine import JetStream

NOT_API = (b"DIRECT.GET.", b"CONSUMER.MSG.NEXT.")
"""What owners listen to themselves."""
RUNNING_MAX = 1024
QUEUE_LIMIT = 10_000
"""Requests waiting for their turn; at this many all of them are dropped, as nats-server's default does."""
MISSING = (apierrors.stream_not_found, apierrors.consumer_not_found)
LEVEL_HEADER = b"Nats-Required-Api-Level"

Fields = dict[str, Any]


def has_level(headers: bytes) -> bool:
    """Return whether this server has the API level that a request's headers ask for."""
    level = get(headers, LEVEL_HEADER)
    return not level or is_level_supported(level.decode("utf-8", "replace"))


def _carried(call: Call, request: Request) -> Fields:
    """Return a request as it travels to another worker."""
    return {
        "pattern": call.pattern,
        "account": request.account,
        "subject": request.subject,
        "tokens": request.tokens,
        "reply": request.reply,
        "client": request.client,
        "headers": request.headers,
        "body": request.body,
    }


class Gateway:
    """The API as one worker's clients see it."""

    def __init__(self, engine: JetStream, client_of: Callable[[int], Fields]) -> None:
        """Prepare; `start` begins to listen.

        Args:
            client_of: client id → what advisories show of that client.
        """
        self._engine = engine
        self._client_of = client_of
        self._running = 0
        self._waiting: deque[Callable[[], None]] = deque()
        self._listeners: list[int] = []

    def start(self) -> None:
        """Take requests from now on."""
        for account in self._engine.accounts.values():
            for prefix in self._engine.api_prefixes:
                sink = CallSink(partial(self._take, account, len(prefix)))
                excluded = [prefix + word for word in NOT_API]
                self._listeners.append(
                    self._engine.plane.listen(
                        account.index, prefix + b">", sink, is_local=True, excluded=excluded
                    )
                )
        self._engine.mesh.serve("api", self._answer_for)

    def close(self) -> None:
        """Take no requests any more."""
        while self._listeners:
            self._engine.plane.unlisten(self._listeners.pop())
        self._waiting.clear()

    # ---- a request of a client

    def _take(
        self,
        account: Account,
        prefix_length: int,
        subject: bytes,
        reply: bytes,
        headers: bytes,
        body: bytes,
        client_id: int,
    ) -> None:
        text = subject.decode("utf-8", "replace")
        found = api.find(subject[prefix_length:].decode("utf-8", "replace"))
        if found is None:
            return
        call, tokens = found
        request = Request(account.index, text, tokens, headers, body, reply.decode("utf-8", "replace"), {})
        start = partial(self._start, call, request, account, reply, client_id)
        if self._running < RUNNING_MAX:
            start()
            return
        self._waiting.append(start)
        if len(self._waiting) >= QUEUE_LIMIT:
            self._engine.log.warning(f"JetStream API queue limit reached, dropping {QUEUE_LIMIT} requests")
            self._waiting.clear()

    def _start(self, call: Call, request: Request, account: Account, reply: bytes, client_id: int) -> None:
        self._running += 1

        def done(fields: Fields | None, error: ApiError | None) -> None:
            self._finish(call, request, account, reply, client_id, fields, error)

        if call.checks_level and not has_level(request.headers):
            done(None, apierrors.required_api_level())
            return
        if call.needs_client:
            request = request._replace(client=self._shown(client_id))
        place, mesh = self._place_of(call, request, account), self._engine.mesh
        if place == mesh.worker:
            mesh.run(call.pattern, partial(call.handler, self._engine, request), done)
        else:
            mesh.start_call(place, "api", _carried(call, request), done)

    def _place_of(self, call: Call, request: Request, account: Account) -> int:
        engine = self._engine
        if call.place is Place.HERE:
            return engine.mesh.worker
        if call.place is Place.DIRECTORY:
            return engine.ownership.directory(account.name)
        return engine.ownership.owner(account.name, request.stream)

    def _finish(
        self,
        call: Call,
        request: Request,
        account: Account,
        reply: bytes,
        client_id: int,
        fields: Fields | None,
        error: ApiError | None,
    ) -> None:
        """Answer a client, and let the next request that waits have its turn."""
        engine = self._engine
        self._running -= 1
        if call.is_counted:
            account.api_total += 1
            account.api_errors += error is not None
        if error is not None:
            response = gojson.encode(stream_json.error_response(call.kind, error))
        else:
            response = gojson.encode(stream_json.response(call.kind, fields or {}))
        if reply and (call.is_counted or not any(kind.is_kind_of(error) for kind in MISSING)):
            engine.plane.publish(account.index, reply, response)
        if call.is_counted and engine.advisories.wants_audit(account.index):
            asked = {"request": request.body.decode("utf-8", "replace")} if request.body else {}
            engine.advisories.audit(
                account.index,
                {
                    "server": engine.config.server_name,
                    "client": self._shown(client_id),
                    "subject": request.subject,
                    **asked,
                    "response": response.decode(),
                },
            )
        if self._waiting and self._running < RUNNING_MAX:
            self._waiting.popleft()()

    def _shown(self, client_id: int) -> Fields:
        """Return a client as advisories show it."""
        client = self._client_of(client_id)
        if client:
            client["start"] = gojson.format_time(client["start"])
        return client

    # ---- a request that another worker's gateway took

    def _answer_for(self, body: Fields) -> Any:
        """Run the function of a call on this worker."""
        request = Request(
            body["account"],
            body["subject"],
            tuple(body["tokens"]),
            body["headers"],
            body["body"],
            body["reply"],
            body["client"],
        )
        return api.BY_PATTERN[body["pattern"]].handler(self._engine, request)
