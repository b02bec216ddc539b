"""The fast path of direct get agrees with the slow one on any body.

A request with a header that does not matter is never answered by the fast path, so the same request with and
without it must get the same answers.
"""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.planes import Client, Mesh, Received, mesh

from storage.memory import memory_stream
from workers.jetstream.direct import DirectGet

BLOCK = b"NATS/1.0\r\nA: b\r\n\r\n"
SUBJECTS = (b"a", b"a.b", b"a.b.c", b"x*y", b"a>", b"\xc3\xa4", b'q"', b"back\\slash")
BLANKS = st.text(" \t\r\n", max_size=2)
NUMBERS = st.one_of(
    st.integers(-3, 12).map(str),
    st.sampled_from(
        ["18446744073709551615", "18446744073709551616", "9999999999999999999", "01", "1.0", "1e0", ""]
    ),
)
TEXTS = st.one_of(
    st.sampled_from([subject.decode() for subject in SUBJECTS]),
    st.sampled_from(
        ["", "*", ">", "a.*", "a.>", "\\u0061", '\\"', "a\\", "\x7f", "\t", "nope", "x*", "\ud800"]
    ),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw something like one of the two bodies that the fast path knows."""
    name = draw(st.sampled_from(["seq", "last_by_subj", "SEQ", "next_by_subj", "no_hdr"]))
    value = draw(
        st.one_of(NUMBERS, TEXTS.map(lambda text: f'"{text}"'), st.sampled_from(["true", "null", "[]"]))
    )
    parts = ["{", f'"{name}"', ":", value, "}", draw(st.sampled_from(["", "", "", "x", "{}", ","]))]
    text = draw(BLANKS).join(parts)
    data = text.encode(errors="surrogatepass")
    cut = draw(st.integers(0, 40))
    return data[: len(data) - cut] if cut < 5 else data


class Service:
    """A worker that holds a stream named S, and a client that asks for its messages."""

    def __init__(self, planes: Mesh) -> None:
        self.planes = planes
        store = memory_stream()
        for number, subject in enumerate(SUBJECTS):
            store.append(subject, b"", b"%d" % number, number + 1)
        engine = SimpleNamespace(config=SimpleNamespace(max_pending=1 << 20), later=None)
        direct = DirectGet(SimpleNamespace(name="S", store=store, is_memory=False, engine=engine))  # type: ignore[arg-type]
        for subject in (b"$JS.API.DIRECT.GET.S", b"$JS.API.DIRECT.GET.S.>"):
            planes.hosts[0].plane.listen(0, subject, direct)
        self.client: Client = planes.connect(headers=True)
        self.client.send(b"SUB in 1\r\n")

    def ask(self, subject: bytes, body: bytes) -> tuple[list[Received], list[Received]]:
        """Return the answers without and with a header that does not matter."""
        total = len(BLOCK) + len(body)
        requests = (
            b"PUB %b in %d\r\n%b\r\n" % (subject, len(body), body),
            b"HPUB %b in %d %d\r\n%b%b\r\n" % (subject, len(BLOCK), total, BLOCK, body),
        )
        answers = []
        for request in requests:
            self.client.send(request)
            self.planes.settle()
            answers.append(self.client.take_messages())
        return answers[0], answers[1]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with mesh(1) as planes:
        yield Service(planes)


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies())
@example(body=b'{"seq":3}')
@example(body=b'{"last_by_subj":"a.b"}')
@example(body=b"{")
@example(body=b'{"seq"')
@example(body=b'{"seq":')
@example(body=b'{"last_by_subj":"')
def test_any_body_is_answered_alike(service: Service, body: bytes) -> None:
    fast, slow = service.ask(b"$JS.API.DIRECT.GET.S", body)
    assert len(fast) == 1
    assert fast == slow


@pytest.mark.parametrize("key", [*SUBJECTS, b"*", b">", b"a.*", b"nope", b"\xff"])
@pytest.mark.parametrize("body", [b"", b"{}", b"x"])
def test_any_subject_is_answered_alike(service: Service, key: bytes, body: bytes) -> None:
    fast, slow = service.ask(b"$JS.API.DIRECT.GET.S." + key, body)
    assert len(fast) == 1
    assert fast == slow
