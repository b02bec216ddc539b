"""What a consumer's state promises: the packed changes byte by byte, ack floors, memory, damaged bytes."""

from random import Random

import pytest
from support.faulty_files import RecordingFiles

from storage.consumer import ACK_ALL, ACK_EXPLICIT, ACK_NONE, ConsumerStore
from storage.errors import FileDamaged
from storage.store import Store


def new_store(ack_policy: int = ACK_EXPLICIT) -> ConsumerStore:
    return ConsumerStore("c", 1, ack_policy, b"")


def delivered(count: int, ack_policy: int = ACK_EXPLICIT, gap: int = 1) -> ConsumerStore:
    """Return a consumer that delivered `count` messages at time 7, every `gap`th of the stream."""
    store = new_store(ack_policy)
    for number in range(1, count + 1):
        store.delivered(number, number * gap, 1, 7)
    return store


def test_deliveries_in_order_at_one_time_are_one_change() -> None:
    # version, serial; kind 1 with count, both sequences and time: 299 = 0xab 0x02, +1 = 2, +1 = 2, +7 = 14
    assert delivered(300).take_changes() == bytes([1, 1, 0x79, 0xAB, 0x02, 2, 2, 14])


def test_acknowledgements_in_order_are_one_change() -> None:
    store = delivered(300)
    store.take_changes()
    for sequence in range(1, 201):
        assert store.ack(sequence, sequence) == 1
    assert store.take_changes() == bytes([1, 2, 0x2B, 0xC7, 0x01, 2])


def test_what_is_given_up_is_known_after_a_restart_until_it_is_acknowledged() -> None:
    store = delivered(5)
    assert [store.give_up(sequence) for sequence in (2, 3, 4)] == [1, 1, 1]
    assert (store.given_up, list(store.pending), store.floor_stream) == ({2, 3, 4}, [1, 5], 0)
    record = store.take_changes()
    # kind 7 with count and sequence: 3 - 1 = 2, +2 = 4
    assert record.endswith(bytes([0x2F, 2, 4]))
    # version, serial; delivered 5, 5; floor 0, 0; kind 1 at 1, 1, time 7; kind 1 at 5, 5; kind 7 as above
    state = bytes([1, 1, 5, 5, 0, 0, 0x71, 2, 2, 14, 0x31, 6, 6, 0x2F, 2, 4])
    assert store.export() == state
    copy = new_store()
    copy.restore(state)
    assert (copy.given_up, list(copy.pending)) == ({2, 3, 4}, [1, 5])
    assert store.ack(3, 3) == 0
    copy.replay(store.take_changes())
    assert copy.given_up == store.given_up == {2, 4}
    copy.reset(1)
    assert copy.given_up == set()


def test_a_redelivery_says_how_many() -> None:
    store = delivered(2)
    store.take_changes()
    store.delivered(3, 1, 2, 5)
    assert store.take_changes() == bytes([1, 2, 0x7A, 1, 6, 2, 10])


def test_differences_below_zero_are_odd() -> None:
    store = delivered(9)
    store.take_changes()
    store.ack(9, 9)
    store.ack(7, 7)
    # The second is three below the expected 10: 2 * 3 - 1.
    assert store.take_changes() == bytes([1, 2, 0x23, 18, 0x23, 5])


def test_a_cumulative_acknowledgement_keeps_its_pair() -> None:
    store = delivered(9, ACK_ALL)
    store.take_changes()
    assert store.ack(5, 5) == 5
    assert store.take_changes() == bytes([1, 2, 0x34, 10, 10])
    assert store.state()["ack_floor"] == (5, 5)
    assert list(store.pending) == [6, 7, 8, 9]


def test_an_acknowledgement_that_changes_nothing_is_not_logged() -> None:
    for policy in (ACK_NONE, ACK_ALL, ACK_EXPLICIT):
        store = delivered(3, policy)
        store.ack(1, 1)
        store.take_changes()
        assert store.ack(1, 1) == 0
        assert store.take_changes() == b""


def test_nothing_is_pending_when_nobody_acknowledges() -> None:
    store = delivered(3, ACK_NONE)
    assert store.state() == {"delivered": (3, 3), "ack_floor": (3, 3), "pending": {}, "redelivered": {}}


def test_the_floor_moves_to_the_lowest_pending_message_with_the_one_above_it() -> None:
    store = delivered(4, gap=10)
    store.ack(2, 20)
    assert store.state()["ack_floor"] == (0, 0)
    store.ack(1, 10)
    assert store.state()["ack_floor"] == (2, 29)
    store.ack(3, 30)
    store.ack(4, 40)
    assert store.state()["ack_floor"] == (4, 40)


def test_a_redelivery_keeps_its_first_consumer_sequence_and_becomes_the_youngest() -> None:
    store = delivered(3)
    store.delivered(4, 1, 2, 50)
    assert store.message(1) == (1, 1, 2, 50)
    assert list(store.pending) == [1, 2, 3]
    assert store.oldest_first == [2, 3, 1]
    assert (store.redelivered, store.redelivered_count) == ({1: 1}, 1)
    store.ack(1, 1)
    assert (store.redelivered, store.redelivered_count, store.message(1)) == ({}, 0, None)


def test_restarting_the_wait_moves_a_message_to_the_end_without_a_log() -> None:
    store = delivered(3)
    store.take_changes()
    assert store.restart_wait(2, 60) == 1
    assert store.restart_wait(9, 60) == 0
    assert store.oldest_first == [1, 3, 2]
    assert store.message(2) == (2, 2, 1, 60)
    assert store.take_changes() == b""


def test_a_reset_begins_anew() -> None:
    store = delivered(3)
    store.take_changes()
    store.reset(2)
    expected = {"delivered": (0, 1), "ack_floor": (0, 1), "pending": {}, "redelivered": {}}
    assert store.state() == expected
    copy = delivered(3)
    copy.take_changes()
    copy.replay(store.take_changes())
    assert copy.state() == expected
    store.delivered(1, 2, 1, 9)
    assert store.pending == {2: (1, 9)}


def test_a_new_consumer_starts_behind_a_sequence() -> None:
    store = new_store()
    store.start_at(41)
    assert store.state()["delivered"] == store.state()["ack_floor"] == (0, 41)
    copy = new_store()
    copy.replay(store.take_changes())
    assert copy.state() == store.state()


def test_a_message_below_the_highest_pending_one_takes_its_place() -> None:
    store = delivered(5, gap=10)
    store.delivered(6, 25, 2, 8)
    store.delivered(7, 5, 1, 8)
    assert list(store.pending) == [5, 10, 20, 25, 30, 40, 50]
    assert store.oldest_first == [10, 20, 30, 40, 50, 25, 5]


def test_an_old_record_is_passed_over() -> None:
    store, copy = delivered(3), new_store()
    first = store.take_changes()
    store.ack(1, 1)
    store.ack(2, 2)
    second = store.take_changes()
    for record in (first, second, first, second, first):
        copy.replay(record)
    assert copy.state() == store.state()


@pytest.mark.parametrize("gap", [1, 3, 16, 1024, 1 << 40])
def test_pending_messages_need_little_memory_and_give_it_back(gap: int) -> None:
    store = new_store()
    count = 50_000
    for number in range(1, count + 1):
        store.delivered(number, number * gap, 1, 7)
    store.take_changes()
    assert store.pending_count == count
    assert store.memory_bytes < 60 * count
    order = list(range(1, count + 1))
    Random(1).shuffle(order)
    for number in order[: count - 10]:
        assert store.ack(number, number * gap) == 1
    store.take_changes()
    assert list(store.pending) == sorted(number * gap for number in order[count - 10 :])
    assert store.memory_bytes < 100_000
    for number in order[count - 10 :]:
        store.ack(number, number * gap)
    store.take_changes()
    assert store.state()["ack_floor"] == (count, count * gap)
    assert store.memory_bytes < 5000


def test_a_moving_window_of_pending_messages_keeps_its_size() -> None:
    store = new_store()
    for number in range(1, 20_001):
        store.delivered(number, number, 1, number)
        if number > 100:
            store.ack(number - 100, number - 100)
        if number % 50 == 0:
            store.take_changes()
    assert store.memory_bytes < 12_000
    assert store.oldest_first == list(range(19_901, 20_001))


def test_a_state_restores_in_every_order() -> None:
    store = delivered(1000, gap=3)
    rng = Random(2)
    for number in range(1001, 1500):
        store.delivered(number, rng.randint(1, 1000) * 3, rng.randint(2, 9), number)
    store.restart_wait(30, 5000)
    copy = new_store()
    copy.restore(store.export())
    assert copy.state() == store.state()
    assert list(copy.pending) == list(store.pending)
    assert copy.oldest_first == store.oldest_first
    assert copy.redelivered_count == store.redelivered_count


def test_a_state_can_be_set() -> None:
    store = delivered(300, gap=3)
    rng = Random(3)
    for number in range(301, 500):
        store.delivered(number, rng.randint(1, 300) * 3, rng.randint(2, 9), number)
    for sequence in (3, 6, 30, 90):
        store.ack(sequence, sequence)
    copy = delivered(7)
    copy.set_state(store.state())
    assert copy.state() == store.state()
    assert (copy.pending_count, copy.redelivered_count) == (store.pending_count, store.redelivered_count)
    times = [store.pending[sequence][1] for sequence in store.oldest_first]
    assert [copy.pending[sequence][1] for sequence in copy.oldest_first] == times
    # It goes on where the other one stood.
    for one in (store, copy):
        one.ack(5, 9)
        one.delivered(500, 903, 1, 501)
    assert copy.state() == store.state()
    # What was redelivered and is not pending is given up.
    copy.set_state({**store.state(), "redelivered": {1: 3, 12: 1}})
    assert copy.given_up == {1}
    nobody_acks = new_store(ACK_NONE)
    nobody_acks.set_state({**store.state(), "redelivered": {1: 3}})
    assert (nobody_acks.pending_count, nobody_acks.delivered_stream) == (0, 903)
    assert nobody_acks.given_up == set()


def test_what_is_given_up_is_remembered_until_it_is_acknowledged() -> None:
    store = delivered(9)
    for sequence in (2, 3, 4, 8):
        assert store.give_up(sequence) == 1
    assert store.give_up(8) == 0
    assert store.ack(3, 3) == 0
    assert (store.given_up, store.pending_count, store.floor_stream) == ({2, 4, 8}, 5, 0)
    replayed, exported = new_store(), new_store()
    replayed.replay(store.take_changes())
    exported.restore(store.export())
    for copy in (replayed, exported):
        assert (copy.state(), copy.given_up) == (store.state(), {2, 4, 8})
    store.ack(8, 8)
    replayed.replay(store.take_changes())
    assert replayed.given_up == {2, 4}
    store.reset(1)
    assert store.given_up == set()


def test_a_cumulative_acknowledgement_counts_for_what_is_given_up() -> None:
    store = delivered(9, ACK_ALL)
    store.give_up(4)
    store.ack(4, 4)
    copy = new_store(ACK_ALL)
    copy.replay(store.take_changes())
    for one in (store, copy):
        assert (one.given_up, one.floor_stream, list(one.pending)) == (set(), 4, [5, 6, 7, 8, 9])


def test_the_largest_numbers_survive() -> None:
    store, top = new_store(), (1 << 64) - 1
    store.delivered(top - 1, top - 1, 1, -(1 << 63))
    store.delivered(top, top, (1 << 32) - 1, (1 << 63) - 1)
    copy = new_store()
    copy.replay(store.take_changes())
    assert copy.state() == store.state()
    assert copy.message(top) == (top, top, (1 << 32) - 1, (1 << 63) - 1)
    again = new_store()
    again.restore(store.export())
    assert again.state() == store.state()


@pytest.mark.parametrize(
    "data", [b"", b"\x02\x01", b"\x01", b"\x01\x81", b"\x01\x01\x00", b"\x01\x01\x29\xff"]
)
def test_bytes_that_are_no_changes_are_refused(data: bytes) -> None:
    with pytest.raises(FileDamaged):
        new_store().replay(data)


@pytest.mark.parametrize("data", [b"", b"\x02", b"\x01\x01\x00\x00\x00", b"\x01\x01\x00\x00\x00\x00\x03"])
def test_bytes_that_are_no_state_are_refused(data: bytes) -> None:
    with pytest.raises(FileDamaged):
        new_store().restore(data)


def test_a_state_that_was_set_is_kept() -> None:
    files = RecordingFiles()
    store = Store(files, rng=Random(1), threaded=False)
    control = store.create_stream("s").control
    consumer = control.add_consumer("c", ACK_EXPLICIT, b"definition")
    consumer.delivered(1, 1, 1, 1)
    consumer.set_state(delivered(50).state())
    control.keep_state(consumer)
    consumer.ack(1, 1)
    consumer.delivered(51, 51, 1, 8)
    store.wait(store.commit())
    state = consumer.state()
    store.close()
    again = Store(files, rng=Random(1), threaded=False)
    assert again.streams["s"].control.consumers["c"].state() == state
    assert state["ack_floor"] == (1, 1)
    again.close()


def test_a_store_that_is_opened_again_has_its_consumers() -> None:
    files = RecordingFiles()
    store = Store(files, rng=Random(1), threaded=False)
    control = store.create_stream("s").control
    consumer = control.add_consumer("c", ACK_EXPLICIT, b"definition")
    for number in range(1, 101):
        consumer.delivered(number, number, 1, number)
        if number % 3:
            consumer.ack(number, number)
        store.wait(store.commit())
    state = consumer.state()
    store.close()
    again = Store(files, rng=Random(1), threaded=False)
    assert again.streams["s"].control.consumers["c"].state() == state
    again.close()
