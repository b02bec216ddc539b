"""Calls between workers: frames, answers, errors, and a worker that dies in between."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from workers.jetstream import apierrors, mesh
from workers.jetstream.apierrors import ApiError
from workers.jetstream.mesh import Mesh
from workers.sinks import CallSink


class Switch:
    """Carries messages between the planes of fake workers, unless a worker is down: then they wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.handlers: dict[bytes, Callable[..., None]] = {}
        self.waiting: dict[bytes, list[tuple[bytes, bytes]]] = {}
        self.sent = 0
        monkeypatch.setattr(mesh, "CallSink", lambda handler: handler)

    def listen(
        self, account: int, subject: bytes, sink: Callable[..., None], *, is_sticky: bool = False
    ) -> int:
        assert account == mesh.INTERNAL_ACCOUNT
        assert is_sticky == subject.startswith(b"w.")
        self.handlers[subject] = sink
        for frame, reply in self.waiting.pop(subject, []):
            sink(subject, reply, b"", frame, 0)
        return len(self.handlers)

    def publish(self, account: int, subject: bytes, payload: bytes, *, reply: bytes = b"") -> int:
        self.sent += 1
        if subject in self.handlers:
            asyncio.get_running_loop().call_soon(self.handlers[subject], subject, reply, b"", payload, 0)
        else:
            self.waiting.setdefault(subject, []).append((payload, reply))
        return 1


class Lines(list[str]):
    """A log that is a list."""

    def error(self, text: str) -> None:
        self.append(text)

    def limited(self, key: str, text: str) -> None:
        self.append(text)


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Switch:
    return Switch(monkeypatch)


def join(switch: Switch, worker: int, life: str = "L", log: Lines | None = None) -> Mesh:
    one: Any = Mesh(switch, worker, life, asyncio.get_running_loop(), log if log is not None else Lines())  # type: ignore[arg-type]
    one.start()
    return one


def test_frames_keep_values_and_bytes():
    body = {"n": 1, "text": "é", "blob": b"\x00\xff", "empty": b"", "none": None, "list": [1, {"a": 2}]}
    assert mesh.decode(mesh.encode([7, "name"], body)) == ([7, "name"], body)


async def test_a_call_gets_what_the_method_returns(switch: Switch):
    one, two = join(switch, 0), join(switch, 1)
    two.serve("double", lambda body: {"twice": 2 * body["n"], "blob": body["blob"]})
    assert await one.call(1, "double", {"n": 21, "blob": b"x"}) == {"twice": 42, "blob": b"x"}


async def test_a_call_to_the_own_worker_runs_at_once(switch: Switch):
    one = join(switch, 0)
    one.serve("echo", lambda body: body)
    answers: list[Any] = []
    one.start_call(0, "echo", {"n": 1}, lambda body, error: answers.append((body, error)))
    assert answers == [({"n": 1}, None)]
    assert switch.sent == 0


@pytest.mark.parametrize("worker", [0, 1])
async def test_a_method_may_be_a_coroutine_and_may_refuse(switch: Switch, worker: int):
    one, two = join(switch, 0), join(switch, 1)

    async def refuse(_body: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        raise apierrors.stream_not_found()

    (one, two)[worker].serve("refuse", refuse)
    with pytest.raises(ApiError, match="stream not found") as caught:
        await one.call(worker, "refuse", {})
    assert (caught.value.code, caught.value.err_code) == (404, 10059)


@pytest.mark.parametrize("worker", [0, 1])
async def test_a_broken_method_is_logged_and_answered(switch: Switch, worker: int):
    log = Lines()
    one, two = join(switch, 0, log=log), join(switch, 1, log=log)
    (one, two)[worker].serve("break", lambda body: {"never": body["missing"]})
    with pytest.raises(ApiError, match="internal error"):
        await one.call(worker, "break", {})
    assert "KeyError: 'missing'" in log[0]


async def test_a_call_to_a_dead_worker_waits_until_it_is_back(switch: Switch):
    one = join(switch, 0)
    answer = one.call(1, "name", {})
    assert not answer.done()
    two = join(switch, 1)
    two.serve("name", lambda body: {"name": "two"})
    assert await asyncio.wait_for(one.call(1, "name", {}), 5) == {"name": "two"}


async def test_what_a_worker_took_before_it_died_is_sent_again(switch: Switch):
    one, two = join(switch, 0), join(switch, 1, "first")
    never: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    two.serve("slow", lambda body: never)
    answer = one.call(1, "slow", {"n": 1})
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del switch.handlers[b"w.1"], switch.handlers[b"r.1.first"]
    one.peer_lost(1)
    again: Any = Mesh(switch, 1, "second", asyncio.get_running_loop(), Lines())  # type: ignore[arg-type]
    again.serve("slow", lambda body: {"n": body["n"] + 1})
    again.start()
    assert await asyncio.wait_for(answer, 5) == {"n": 2}
    never.cancel()


async def test_a_call_without_an_answer_ends_as_unavailable(switch: Switch):
    log = Lines()
    one = join(switch, 0, log=log)
    with pytest.raises(ApiError) as caught:
        await one.call(1, "name", {}, timeout_s=0.01)
    assert caught.value.err_code == 10008
    assert log == ["JetStream: worker 1 did not answer in time"]


async def test_an_answer_that_no_ring_takes_is_an_error(switch: Switch, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mesh, "FRAME_BYTES_MAX", 1000)
    one, two = join(switch, 0), join(switch, 1)
    two.serve("much", lambda body: {"text": "x" * body["size"]})
    assert len((await one.call(1, "much", {"size": 900}))["text"]) == 900
    with pytest.raises(ApiError, match="answer too large"):
        await one.call(1, "much", {"size": 1000})


def test_call_sink_is_what_it_listens_with():
    assert mesh.CallSink is CallSink
