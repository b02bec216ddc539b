"""`midge check`: it reports, it repairs into a copy, it changes nothing; the scrubber finds what the disk
altered."""

from pathlib import Path

import pytest

from storage import check
from storage.limits import StreamLimits
from storage.scrub import Scrubber
from storage.store import Store


def make_store(root: Path, count: int = 200) -> None:
    root.mkdir()
    store = Store(root)
    directory = store.create_stream("orders", b"definition", limits=StreamLimits(segment_bytes=4000))
    for index in range(count):
        directory.stream.append(b"orders.%d" % (index % 5), b"", b"payload %d" % index, index)
    consumer = directory.control.add_consumer("c", 2, b"consumer")
    consumer.delivered(1, 1, 1, 5)
    store.wait(store.commit())
    store.close()


def damage(root: Path, at: int = 300) -> None:
    path = root / "streams/00000001/00000002.log"
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(bytes(data))


def everything(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_sound_store_is_called_sound_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(tmp_path / "store")
    before = everything(tmp_path / "store")
    assert check.main([str(tmp_path / "store")]) == 0
    assert "orders: 200 messages" in capsys.readouterr().out
    assert everything(tmp_path / "store") == before


def test_damage_is_reported_and_a_repaired_copy_has_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(tmp_path / "store")
    damage(tmp_path / "store")
    before = everything(tmp_path / "store")
    assert check.main([str(tmp_path / "store"), "--repair", str(tmp_path / "copy")]) == 1
    assert "1 lost" in capsys.readouterr().out
    assert everything(tmp_path / "store") == before
    store = Store(tmp_path / "copy")
    stream = store.streams["orders"].stream
    assert (stream.messages, stream.last_sequence) == (199, 200)
    assert store.streams["orders"].control.consumers["c"].state()["pending"] == {1: (1, 5)}
    store.close()


def test_no_store_and_a_full_target_are_errors(tmp_path: Path) -> None:
    assert check.main([str(tmp_path)]) == 2
    make_store(tmp_path / "store")
    assert check.main([str(tmp_path / "store"), "--repair", str(tmp_path / "store")]) == 2


def test_the_scrubber_finds_a_changed_message_and_keeps_its_neighbours(tmp_path: Path) -> None:
    make_store(tmp_path / "store")
    damage(tmp_path / "store")
    store = Store(tmp_path / "store")
    scrubber = Scrubber(store)
    while scrubber.step():
        pass
    state = store.streams["orders"].stream.state()
    assert len(state.lost) == 1
    assert state.messages == 199
    assert len(store.reports) == 1
    assert scrubber.rounds == 1
    store.close()
