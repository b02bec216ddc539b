"""The catalogue of JetStream errors."""

import pickle

import pytest

from workers.jetstream import apierrors
from workers.jetstream.apierrors import ApiError, ErrorKind

KINDS = {name: kind for name, kind in vars(apierrors).items() if isinstance(kind, ErrorKind)}


def test_error_has_what_goes_on_the_wire():
    error = apierrors.stream_not_found()
    assert error.to_json() == {"code": 404, "err_code": 10059, "description": "stream not found"}
    assert list(error.to_json()) == ["code", "err_code", "description"]
    assert str(error) == "stream not found"


def test_texts_are_put_in_the_places_of_the_template():
    error = apierrors.restore_subscribe_failed("x.{err}.y", "why")
    assert error.description == "JetStream unable to subscribe to restore snapshot x.{err}.y: why"


def test_a_number_of_texts_that_does_not_fit_is_our_mistake():
    with pytest.raises(AssertionError):
        apierrors.stream_not_found("more")
    with pytest.raises(AssertionError):
        apierrors.stream_update()


def test_generic_error_carries_the_text_of_another():
    error = apierrors.stream_create.wrap(ValueError("invalid subject"))
    assert (error.code, error.err_code, error.description) == (500, 10049, "invalid subject")


def test_an_api_error_is_not_wrapped():
    inner = apierrors.stream_subject_overlap()
    assert apierrors.stream_create.wrap(inner) is inner


def test_kind_of_an_error_is_told():
    assert apierrors.stream_not_found.is_kind_of(apierrors.stream_not_found())
    assert not apierrors.stream_not_found.is_kind_of(apierrors.bad_request())
    assert not apierrors.stream_not_found.is_kind_of(ValueError("stream not found"))


def test_error_survives_the_way_to_another_process():
    error = pickle.loads(pickle.dumps(apierrors.sequence_not_found(7)))
    assert isinstance(error, ApiError)
    assert error.to_json() == apierrors.sequence_not_found(7).to_json()


def test_every_number_is_used_once():
    numbers = [kind.err_code for kind in KINDS.values()]
    assert len(set(numbers)) == len(numbers) > 190
    assert all(10_002 <= number <= 10_228 for number in numbers)
    assert {kind.code for kind in KINDS.values()} <= {400, 404, 409, 412, 429, 500, 503}
