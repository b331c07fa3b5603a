"""What is asked and answered comes out of the other end of the socket as it went in, or is refused."""

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperfs.daemon.call import Call
from hyperfs.daemon.codec import Key, from_plain, to_plain
from hyperfs.daemon.requests import CALLS, SentOperation, decode_call
from hyperfs.daemon.state import MountChoices
from hyperfs.drive.commits import deletion
from hyperfs.errors import DaemonError, EncodingError
from hyperfs.trie import Delete, Put

RANGES = st.builds(lambda start, size: range(start, start + size), st.integers(0, 2**40), st.integers(0, 2**20))
OPERATIONS = st.one_of(
    st.builds(Put, st.text(), st.none() | st.binary(), st.integers(0, 2**23 - 1), st.booleans()),
    st.builds(Delete, st.text(), st.booleans()),
    st.builds(deletion, st.text()),
)
CHOICES = st.builds(MountChoices, umask=st.none() | st.integers(0, 0o777), read_only=st.booleans())
SPECIAL: dict[Any, st.SearchStrategy[Any]] = {
    Key: st.binary(min_size=32, max_size=32),
    range: RANGES,
    SentOperation: OPERATIONS,
    MountChoices: CHOICES,
    int: st.integers(0, 2**62),
    float: st.floats(allow_nan=False),
}


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for what a field of this type may hold."""
    if kind in SPECIAL:
        return SPECIAL[kind]
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        if arguments[1:] == (...,):
            return st.lists(values_of(arguments[0]), max_size=4).map(tuple)
        return st.tuples(*map(values_of, arguments))
    if typing.get_origin(kind) is dict:
        return st.dictionaries(values_of(arguments[0]), values_of(arguments[1]), max_size=3)
    if arguments:
        return st.one_of(*map(values_of, arguments))
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return st.builds(kind, **{field.name: values_of(hints[field.name]) for field in dataclasses.fields(kind)})
    return st.from_type(kind)


def through_the_socket(plain: Any) -> Any:
    return msgpack.unpackb(msgpack.packb(plain), strict_map_key=False)


@pytest.mark.parametrize("kind", CALLS.values(), ids=list(CALLS))
@settings(max_examples=20)
@given(data=st.data())
def test_what_is_asked_arrives(kind: type[Call[Any]], data: st.DataObject) -> None:
    call = data.draw(values_of(kind))
    assert decode_call(call.method, through_the_socket(call.encoded())) == call


@pytest.mark.parametrize("kind", CALLS.values(), ids=list(CALLS))
@settings(max_examples=20)
@given(data=st.data())
def test_what_is_answered_arrives(kind: type[Call[Any]], data: st.DataObject) -> None:
    answer = data.draw(values_of(kind._answer_kind()))
    assert kind.decode_answer(through_the_socket(kind.encode_answer(answer))) == answer


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def fields_of(kind: type[Call[Any]]) -> Iterator[str]:
    return (field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]  # each kind is a dataclass


@pytest.mark.parametrize("kind", CALLS.values(), ids=list(CALLS))
@settings(max_examples=20)
@given(data=st.data())
def test_anything_else_is_refused_and_nothing_else_happens(kind: type[Call[Any]], data: st.DataObject) -> None:
    arguments = {name: data.draw(PLAIN) for name in fields_of(kind)}
    try:
        call = decode_call(kind.method, arguments)
    except EncodingError:
        return
    assert decode_call(kind.method, through_the_socket(call.encoded())) == call


def test_what_cannot_be_asked_is_named() -> None:
    with pytest.raises(DaemonError, match=r"'core\.eat'"):
        decode_call("core.eat", {})


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Inner:
    pair: tuple[int, str]


@dataclass(frozen=True, slots=True)
class Outer:
    inner: Inner
    colour: Colour = Colour.RED
    many: tuple[bytes, ...] = ()


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        (3, "a map with the fields of Outer"),
        ({}, "Outer lacks inner"),
        ({"inner": {"pair": [1, "a"]}, "x": 1}, "Outer has no field 'x'"),
        ({"inner": {"pair": [1, 2]}}, "Outer.inner: Inner.pair: 2 is not of type str"),
        ({"inner": {"pair": [True, "a"]}}, "True is not of type int"),
        ({"inner": {"pair": [1]}}, "a list of 2"),
        ({"inner": {"pair": [1, "a"]}, "colour": "blue"}, "'blue' is not one of ['red']"),
        ({"inner": {"pair": [1, "a"]}, "many": [b"", "a"]}, "a list of bytes"),
        ({"inner": {"pair": [1, "a"]}, "many": "ab"}, "a list of bytes"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_with_the_field(plain: object, said: str) -> None:
    with pytest.raises(EncodingError) as caught:
        from_plain(Outer, plain)
    assert said in str(caught.value)


def test_what_has_a_default_may_be_left_out() -> None:
    outer = Outer(Inner((1, "a")))
    assert from_plain(Outer, {"inner": {"pair": [1, "a"]}}) == outer
    assert from_plain(Outer, to_plain(outer)) == outer


def test_a_value_that_its_class_refuses_is_refused() -> None:
    with pytest.raises(EncodingError, match="umask"):
        from_plain(MountChoices, {"umask": -1})
