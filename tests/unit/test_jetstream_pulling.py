"""How a stream follows its origin: what is asked, and what happens to answers, errors and refusals."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from storage.limits import StreamLimits
from storage.memory import memory_stream
from storage.subjects import SubjectFilter
from workers.jetstream import apierrors, origins, pulling
from workers.jetstream.pulling import Puller, transformer
from workers.jetstream.stream_config import External, StreamSource, Transform
from workers.jetstream.transfer import Block, pack

NOW_NS = 1_700_000_000_000_000_000


class Engine:
    """Stands for the engine and its mesh: calls are answered and timers run when the test says so."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.warnings: list[str] = []
        self.rounds = 0
        self.config = SimpleNamespace(js_domain="HUB")
        self.ownership = SimpleNamespace(owner=lambda account, name: 3)
        self.mesh = SimpleNamespace(start_call=self._start_call)
        self.plane = SimpleNamespace(return_soon=lambda: None)
        self.log = SimpleNamespace(limited=lambda key, text: self.warnings.append(text))
        self._done: Callable[..., None] | None = None

    def now_ns(self) -> int:
        return NOW_NS

    def later(self, seconds: float, callback: Callable[[], None]) -> SimpleNamespace:
        timer = (seconds, callback)
        self.timers.append(timer)
        return SimpleNamespace(cancel=lambda: timer in self.timers and self.timers.remove(timer))

    def round_ended(self) -> None:
        self.rounds += 1

    def durable(self) -> asyncio.Future[None]:
        raise AssertionError("a stream in memory waits for nothing")

    def _start_call(self, worker: int, name: str, body: dict[str, Any], done: Callable[..., None]) -> None:
        assert (worker, name, self._done) == (3, "stream.read", None)
        self.asked.append(body)
        self._done = done

    @property
    def is_asked(self) -> bool:
        return self._done is not None

    def answer(self, answer: dict[str, Any] | None = None, error: Exception | None = None) -> None:
        """Answer the call that is on its way."""
        done, self._done = self._done, None
        assert done is not None
        done(answer, error)

    def run(self) -> list[float]:
        """Run the timers that are set, and return their times."""
        timers, self.timers = self.timers, []
        for _, callback in timers:
            callback()
        return [seconds for seconds, _ in timers]


class Taker:
    """Stores nothing, and remembers what it was given."""

    def __init__(self) -> None:
        self.at: dict[str, Any] = {"next": 1}
        self.taken: list[int] = []
        self.refusal: Exception | None = None
        self.is_same = True
        self.lost_count = 0

    def position(self) -> dict[str, Any]:
        return self.at

    def connected(self, identity: str, delivered: int) -> bool:
        return self.is_same

    def lost(self) -> None:
        self.lost_count += 1

    def take(self, block: Block) -> bool:
        if self.refusal is not None:
            raise self.refusal
        while not block.is_done:
            self.taken.append(block.message()[0])
            block.skip()
        return True


class Pulling:
    """A puller with all that it needs."""

    def __init__(self, **source: Any) -> None:
        self.engine = Engine()
        self.taker = Taker()
        stream = SimpleNamespace(
            engine=self.engine,
            name="S",
            account=0,
            account_name="$G",
            is_memory=True,
            ingest=SimpleNamespace(touch=lambda: None),
        )
        self.puller = Puller(stream, StreamSource("O", **source), self.taker)
        self.puller.start()

    def answer(self, first: int = 0, last: int = 0, pending: int = 0, identity: str = "id") -> None:
        """Answer with the messages first to last, 0: none."""
        store = memory_stream(StreamLimits(), first_sequence=first or 1)
        for sequence in range(first, last + 1) if first else ():
            store.append(b"s", b"", b"", sequence)
        block, following = pack(store, SubjectFilter(store.subjects, [b">"]), 1, last, 100, 1 << 20)
        self.engine.answer(
            {"identity": identity, "next": following, "delivered": 0, "pending": pending, "block": block}
        )


def test_blocks_are_asked_for_while_earlier_ones_are_stored():
    pulling_ = Pulling()
    engine = pulling_.engine
    assert engine.asked[0]["is_first"]
    pulling_.answer(1, 3, pending=7)
    assert engine.asked[1]["next"] == 4
    assert pulling_.taker.taken == []
    pulling_.answer(4, 6, pending=4)
    assert not engine.is_asked  # two blocks are enough to have here
    assert engine.run() == [0]
    assert (pulling_.taker.taken, pulling_.puller.lag) == ([1, 2, 3], 7)
    assert engine.asked[2]["next"] == 7
    engine.run()
    assert (pulling_.taker.taken, pulling_.puller.lag, engine.rounds) == ([1, 2, 3, 4, 5, 6], 4, 2)


def test_filters_are_those_of_the_source():
    transforms = (Transform("a.*", "b.$1"), Transform("c", ""))
    assert Pulling().engine.asked[0]["filters"] == []
    assert Pulling(filter_subject="a.b").engine.asked[0]["filters"] == ["a.b"]
    assert Pulling(subject_transforms=transforms).engine.asked[0]["filters"] == ["a.*", "c"]


def test_an_origin_that_is_not_there_is_asked_for_again():
    pulling_ = Pulling()
    engine, puller = pulling_.engine, pulling_.puller
    for count in (1, 2):
        engine.answer(error=apierrors.stream_not_found())
        assert apierrors.stream_not_found.is_kind_of(puller.error)
        assert (puller.heard_ns, pulling_.taker.lost_count) == (0, count)
        assert engine.run() == [pulling.RETRY_SECONDS]
    pulling_.answer(1, 1)
    assert (puller.error, puller.heard_ns) == (None, NOW_NS)


def test_an_owner_that_is_away_is_no_error_of_the_origin():
    pulling_ = Pulling()
    pulling_.answer()
    pulling_.engine.answer(error=apierrors.cluster_not_avail())
    assert pulling_.puller.error is None
    pulling_.taker.at = {"next": 9}
    pulling_.engine.run()
    assert pulling_.engine.asked[-1]["next"] == 9
    assert pulling_.engine.asked[-1]["is_first"]


def test_another_stream_of_that_name_is_begun_with():
    pulling_ = Pulling()
    pulling_.answer()
    pulling_.taker.at = {"next": 1, "identity": ""}
    pulling_.engine.answer({"identity": "other"})
    assert pulling_.engine.asked[-1]["is_first"]
    pulling_.taker.is_same = False
    pulling_.engine.answer({"identity": "other"})
    assert pulling_.engine.asked[-1]["is_first"]


def test_a_refused_message_is_tried_again_and_nothing_more_is_asked_for():
    pulling_ = Pulling()
    pulling_.answer(1, 2)
    pulling_.answer(3, 4)
    pulling_.taker.refusal = apierrors.stream_store_failed("maximum messages exceeded")
    assert pulling_.engine.run() == [0]
    assert pulling_.engine.run() == [pulling.REFUSED_SECONDS]
    assert not pulling_.engine.is_asked
    assert len(pulling_.engine.warnings) == 2
    pulling_.taker.refusal = None
    pulling_.engine.run()
    pulling_.engine.run()
    assert pulling_.taker.taken == [1, 2, 3, 4]


def test_a_closed_puller_takes_nothing():
    pulling_ = Pulling()
    pulling_.answer(1, 2)
    pulling_.puller.close()
    pulling_.answer(3, 4)
    pulling_.engine.run()
    assert pulling_.taker.taken == []
    assert len(pulling_.engine.asked) == 2


@pytest.mark.parametrize(("api", "is_asked"), [("$JS.HUB.API", True), ("$JS.FAR.API", False)])
def test_origins_of_other_servers_are_not_asked_for(api, is_asked):
    pulling_ = Pulling(external=External(api, ""))
    assert pulling_.engine.is_asked is is_asked
    assert len(pulling_.engine.warnings) == (not is_asked)


def test_the_first_transform_that_matches_counts():
    change = transformer(
        StreamSource("O", subject_transforms=(Transform("a.*", "b.$1"), Transform(">", "c.>")))
    )
    assert change is not None
    assert [change(subject) for subject in (b"a.x", b"z")] == [b"b.x", b"c.z"]
    assert transformer(StreamSource("O", subject_transforms=(Transform("a", ""),))) is None


def test_identities_are_nats_servers():
    assert origins.identity(1_795_314_038_418_481_991) == "s6y5NDjz"
