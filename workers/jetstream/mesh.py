"""Calls between workers, over the internal account that clients cannot reach.

    call    subject w.<worker>          reply r.<worker>.<life>       [id, method, body]
    answer  subject r.<worker>.<life>                                 [id, body, error or null]

A call to a worker that is dead waits until that worker is back, because the listener is sticky; calls that it
had taken before it died are sent once more, so a method must be fit to run twice. The subject for answers is
new with every start of a worker: nobody takes an answer meant for its forerunner.

A frame is the length of its JSON part (4 bytes, little endian), that part, and then the members of the body
that are bytes, which JSON cannot hold, one after the other.
"""

from __future__ import annotations

import asyncio
import struct
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from workers.jetstream import apierrors
from workers.jetstream.apierrors import ApiError
from workers.sinks import CallSink

if TYPE_CHECKING:
    from workers.dataplane import DataPlane
    from workers.log import Log

INTERNAL_ACCOUNT = 1
CALL_SECONDS = 20.0
"""How long a call waits for its answer, a restart of the other worker included."""
FRAME_BYTES_MAX = 60 << 20
"""Of an answer; rings refuse what is a little larger."""
LENGTH = struct.Struct("<I")

Body = dict[str, Any]
Done = Callable[[Body | None, ApiError | None], None]
"""Called with what a method returned, or with its error."""
Later = Callable[[Done], None]
"""What a method returns whose answer comes later and needs no task: it sees to it that `done` is called."""
Result = Body | Later | Awaitable[Body]
Method = Callable[[Body], Result]


def encode(head: list[Any], body: Body) -> bytes:
    """Return a frame of some values and a body, whose own members may be bytes."""
    blobs = {key: value for key, value in body.items() if isinstance(value, bytes)}
    rest = {key: value for key, value in body.items() if key not in blobs}
    text = orjson.dumps([*head, rest, [[key, len(value)] for key, value in blobs.items()]])
    return b"".join((LENGTH.pack(len(text)), text, *blobs.values()))


def decode(frame: bytes) -> tuple[list[Any], Body]:
    """Return the values and the body of a frame that `encode` made."""
    (length,) = LENGTH.unpack_from(frame)
    *head, body, blobs = orjson.loads(frame[LENGTH.size : LENGTH.size + length])
    position = LENGTH.size + length
    for key, size in blobs:
        body[key] = frame[position : position + size]
        position += size
    return head, body


class _Call:
    """A call that waits for its answer."""

    __slots__ = ("done", "frame", "timer", "worker")

    def __init__(self, worker: int, frame: bytes, done: Done) -> None:
        self.worker = worker
        self.frame = frame
        self.done = done
        self.timer: asyncio.TimerHandle


class Mesh:
    """This worker's end of the calls."""

    def __init__(
        self, plane: DataPlane, worker: int, life: str, loop: asyncio.AbstractEventLoop, log: Log
    ) -> None:
        """Prepare; `start` begins to listen.

        Args:
            worker: which one this is.
            life: text that no other start of this worker has had.
        """
        self.worker = worker
        self._loop = loop
        self._plane = plane
        self._log = log
        self._methods: dict[str, Method] = {}
        self._calls: dict[int, _Call] = {}
        self._last_id = 0
        self._answers = b"r.%d.%s" % (worker, life.encode())
        self._tasks: set[asyncio.Future[Body]] = set()
        self._listeners: list[int] = []

    def serve(self, name: str, method: Method) -> None:
        """Let others call a method, which returns its answer or how it comes later, or raises ApiError."""
        assert name not in self._methods, name
        self._methods[name] = method

    def start(self) -> None:
        """Take calls and answers from now on."""
        calls, answers = CallSink(self._take_call), CallSink(self._take_answer)
        listen = self._plane.listen
        self._listeners = [
            listen(INTERNAL_ACCOUNT, b"w.%d" % self.worker, calls, is_sticky=True),
            listen(INTERNAL_ACCOUNT, self._answers, answers),
        ]

    def close(self) -> None:
        """Take nothing any more, and leave off what is being done."""
        while self._listeners:
            self._plane.unlisten(self._listeners.pop())
        for task in list(self._tasks):
            task.cancel()
        for call in self._calls.values():
            call.timer.cancel()
        self._calls.clear()

    # ---- calling

    def call(
        self, worker: int, name: str, body: Body, *, timeout_s: float = CALL_SECONDS
    ) -> asyncio.Future[Body]:
        """Call a method of a worker, as `start_call`, and return what will be its answer or ApiError."""
        future: asyncio.Future[Body] = self._loop.create_future()

        def done(answer: Body | None, error: ApiError | None) -> None:
            if future.done():  # whoever waited has been cancelled
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(answer or {})

        self.start_call(worker, name, body, done, timeout_s=timeout_s)
        return future

    def start_call(
        self, worker: int, name: str, body: Body, done: Done, *, timeout_s: float = CALL_SECONDS
    ) -> None:
        """Call a method of a worker; the call is on its way when this returns.

        A call to the own worker runs the method at once, and `done` too if nothing is to be awaited.

        Args:
            done: gets the answer or the method's error, or 10008 when no answer came in time.
        """
        if worker == self.worker:
            self.run(name, partial(self._answer_of, name, body), done)
            return
        self._last_id += 1
        number = self._last_id
        call = _Call(worker, encode([number, name], body), done)
        call.timer = self._loop.call_later(timeout_s, self._give_up, number)
        self._calls[number] = call
        self._send_call(call)

    def peer_lost(self, worker: int) -> None:
        """Send again what a worker had not answered when it died; it gets it when it is back."""
        for call in self._calls.values():
            if call.worker == worker:
                self._send_call(call)

    def _send_call(self, call: _Call) -> None:
        self._plane.publish(INTERNAL_ACCOUNT, b"w.%d" % call.worker, call.frame, reply=self._answers)

    def _give_up(self, number: int) -> None:
        call = self._calls.pop(number)
        self._log.limited("mesh", f"JetStream: worker {call.worker} did not answer in time")
        call.done(None, apierrors.cluster_not_avail())

    def _take_answer(self, _subject: bytes, _reply: bytes, _headers: bytes, frame: bytes, _: int) -> None:
        (number, error), body = decode(frame)
        call = self._calls.pop(number, None)
        if call is None:  # too late, or the second answer to a call that was sent twice
            return
        call.timer.cancel()
        call.done(body, ApiError(*error) if error else None)

    # ---- being called

    def _take_call(self, _subject: bytes, reply: bytes, _headers: bytes, frame: bytes, _: int) -> None:
        (number, name), body = decode(frame)

        def answer(result: Body | None, error: ApiError | None) -> None:
            frame = encode([number, _said(error)], result or {})
            if len(frame) > FRAME_BYTES_MAX:
                self._log.limited("mesh size", f"JetStream: an answer of {name} has {len(frame)} bytes")
                too_large = apierrors.stream_general_error("answer too large")
                frame = encode([number, _said(too_large)], {})
            self._plane.publish(INTERNAL_ACCOUNT, reply, frame)

        self.run(name, partial(self._answer_of, name, body), answer)

    def _answer_of(self, name: str, body: Body) -> Result:
        return self._methods[name](body)

    def run(self, name: str, method: Callable[[], Result], done: Done) -> None:
        """Run what a call asks for here and say how it ended: at once, or when what it returned has come.

        Args:
            name: what the log calls it when it fails.
        """
        try:
            result = method()
        except ApiError as error:
            done(None, error)
            return
        except Exception as error:  # noqa: BLE001 - the boundary of a call: the caller must get an answer
            done(None, self._broken(name, error))
            return
        if isinstance(result, dict):
            done(result, None)
            return
        if callable(result):
            result(done)
            return
        task = asyncio.ensure_future(result, loop=self._loop)
        self._tasks.add(task)

        def finished(task: asyncio.Future[Body]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                return
            error = task.exception()
            if error is None:
                done(task.result(), None)
            elif isinstance(error, ApiError):
                done(None, error)
            else:
                done(None, self._broken(name, error))

        task.add_done_callback(finished)

    def _broken(self, name: str, error: BaseException) -> ApiError:
        lines = "".join(traceback.format_exception(error))
        self._log.error(f"JetStream: internal error in {name}: {lines}")
        return apierrors.stream_general_error("internal error")


def _said(error: ApiError | None) -> list[Any] | None:
    """Return an error as it travels."""
    return [error.code, error.err_code, error.description] if error else None
