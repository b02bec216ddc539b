"""Which worker owns what: the same answer for ever, since files lie by it."""

import pytest

from shm.layout import SLOTS
from workers.jetstream.ownership import Ownership, directory_slot, stream_slot


def test_slots_of_names_never_change():
    assert (directory_slot("$G"), stream_slot("$G", "ORDERS"), stream_slot("$G", "é")) == (177, 211, 233)


def test_a_stream_name_means_another_slot_in_another_account():
    assert stream_slot("A", "S") != stream_slot("B", "S")


def test_owners_come_from_the_placement_table():
    placement = [slot % 7 for slot in range(SLOTS)]
    ownership = Ownership(placement)
    assert ownership.owner("$G", "ORDERS") == stream_slot("$G", "ORDERS") % 7
    assert ownership.directory("$G") == directory_slot("$G") % 7


def test_a_table_of_another_length_is_refused():
    with pytest.raises(ValueError, match="1023 slots"):
        Ownership([0] * (SLOTS - 1))
