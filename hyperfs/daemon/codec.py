"""Dataclasses as plain values that msgpack and JSON carry, and back again.

The rule: what comes out is exactly of the types that the fields say, or an `EncodingError` names the field. So whoever
holds a decoded value checks nothing again.
"""

import dataclasses
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Final, TypeVar, Union

from hyperfs.crypto import KEY_BYTES
from hyperfs.errors import EncodingError

T = TypeVar("T")

Decode = Callable[[Any], Any]
Encode = Callable[[Any], Any]

_SCALARS: Final = (int, str, bytes, bool)
_SHOWN_CHARACTERS: Final = 80


@dataclass(frozen=True, slots=True)
class Via:
    """How a field that is no dataclass of plain fields is sent, for `typing.Annotated`."""

    encode: Encode
    decode: Decode


@dataclass(frozen=True, slots=True)
class Size:
    """The length in bytes that a field has, for `typing.Annotated`."""

    byte_count: int


Key = Annotated[bytes, Size(KEY_BYTES)]
"""A core's public key: nothing else may ever name a core on disk."""


@dataclass(frozen=True, slots=True)
class _Codec:
    encode: Encode
    decode: Decode


def to_plain(value: object, kind: object = None) -> Any:
    """Return a dataclass, or a value of the annotation ``kind``, as maps, lists and scalars."""
    return _codec(type(value) if kind is None else kind).encode(value)


def from_plain(kind: type[T], plain: object) -> T:
    """Return what `to_plain` made ``plain`` of.

    Raises:
        EncodingError: a field is missing, unknown, or of another type.
    """
    value: T = _codec(typing.cast(Any, kind)).decode(plain)
    return value


def _same(value: Any) -> Any:
    return value


def _wrong(plain: object, wanted: str) -> EncodingError:
    return EncodingError(f"{plain!r:.{_SHOWN_CHARACTERS}} is not {wanted}")


@cache
def _codec(kind: Any) -> _Codec:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return _Codec(_same, _same)
    if kind in _SCALARS:
        return _Codec(_same, _exactly(kind))
    if kind is float:
        return _Codec(_same, _number)
    if kind is None or kind is types.NoneType:
        return _Codec(_same, _nothing)
    if kind is range:
        return _Codec(lambda blocks: (blocks.start, blocks.stop), _range)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _Codec(lambda member: member.value, _member_of(kind))
    if dataclasses.is_dataclass(kind):
        return _dataclass_codec(kind)
    if origin is Annotated:
        return _annotated_codec(*arguments)
    if origin is tuple:
        return _list_codec(arguments[0]) if arguments[1:] == (...,) else _tuple_codec(arguments)
    if origin is dict:
        return _dict_codec(*arguments)
    if origin in (Union, types.UnionType):
        return _union_codec(arguments)
    raise TypeError(f"no values of {kind} go through the control socket")


def _exactly(kind: type) -> Decode:
    def decode(plain: Any) -> Any:
        if type(plain) is not kind:
            raise _wrong(plain, f"of type {kind.__name__}")
        return plain

    return decode


def _number(plain: Any) -> float:
    if type(plain) not in (int, float):
        raise _wrong(plain, "a number")
    return float(plain)


def _nothing(plain: Any) -> None:
    if plain is not None:
        raise _wrong(plain, "nothing")


def _range(plain: Any) -> range:
    match plain:
        case [int(start), int(stop)] if 0 <= start <= stop:
            return range(start, stop)
    raise _wrong(plain, "a range [start, stop)")


def _member_of(kind: type[Enum]) -> Decode:
    def decode(plain: Any) -> Enum:
        try:
            return kind(plain)
        except ValueError:
            raise _wrong(plain, f"one of {[member.value for member in kind]}") from None

    return decode


def _annotated_codec(kind: Any, how: object) -> _Codec:
    match how:
        case Size(byte_count):
            return _Codec(_same, _sized(byte_count))
        case Via(encode, decode):
            return _Codec(encode, decode)
    raise TypeError(f"no values of {kind}, {how} go through the control socket")


def _sized(byte_count: int) -> Decode:
    def decode(plain: Any) -> bytes:
        if type(plain) is not bytes:
            raise _wrong(plain, "of type bytes")
        if len(plain) != byte_count:
            raise EncodingError(f"{len(plain)} bytes, where there have to be {byte_count}")
        return plain

    return decode


def _list_codec(kind: Any) -> _Codec:
    item = _codec(kind)
    if item.encode is _same and kind in _SCALARS:

        def decode_scalars(plain: Any) -> tuple[Any, ...]:
            if type(plain) not in (list, tuple) or not all(type(value) is kind for value in plain):
                raise _wrong(plain, f"a list of {kind.__name__}")
            return tuple(plain)

        return _Codec(tuple, decode_scalars)

    def decode(plain: Any) -> tuple[Any, ...]:
        if type(plain) not in (list, tuple):
            raise _wrong(plain, "a list")
        return tuple(map(item.decode, plain))

    return _Codec(lambda values: [item.encode(value) for value in values], decode)


def _tuple_codec(kinds: tuple[Any, ...]) -> _Codec:
    items = [_codec(kind) for kind in kinds]

    def decode(plain: Any) -> tuple[Any, ...]:
        if type(plain) not in (list, tuple) or len(plain) != len(items):
            raise _wrong(plain, f"a list of {len(items)}")
        return tuple(item.decode(value) for item, value in zip(items, plain, strict=True))

    return _Codec(lambda values: [item.encode(value) for item, value in zip(items, values, strict=True)], decode)


def _dict_codec(key_kind: Any, value_kind: Any) -> _Codec:
    key, value = _codec(key_kind), _codec(value_kind)

    def decode(plain: Any) -> dict[Any, Any]:
        if type(plain) is not dict:
            raise _wrong(plain, "a map")
        return {key.decode(name): value.decode(one) for name, one in plain.items()}

    return _Codec(lambda map_: {key.encode(name): value.encode(one) for name, one in map_.items()}, decode)


def _dataclass_codec(kind: Any) -> _Codec:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {field.name: _codec(hints[field.name]) for field in dataclasses.fields(kind)}
    required = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }

    def encode(value: Any) -> dict[str, Any]:
        return {name: codec.encode(getattr(value, name)) for name, codec in fields.items()}

    def decode(plain: Any) -> Any:
        if type(plain) is not dict:
            raise _wrong(plain, f"a map with the fields of {kind.__name__}")
        decoded = {}
        for name, value in plain.items():
            codec = fields.get(name)
            if codec is None:
                raise EncodingError(f"{kind.__name__} has no field {name!r:.{_SHOWN_CHARACTERS}}")
            try:
                decoded[name] = codec.decode(value)
            except EncodingError as error:
                raise EncodingError(f"{kind.__name__}.{name}: {error}") from None
        if not required <= decoded.keys():
            raise EncodingError(f"{kind.__name__} lacks {', '.join(sorted(required - decoded.keys()))}")
        try:
            return kind(**decoded)
        except ValueError as error:
            raise EncodingError(f"{kind.__name__}: {error}") from error

    return _Codec(encode, decode)


def _union_codec(kinds: tuple[Any, ...]) -> _Codec:
    others = [kind for kind in kinds if kind is not types.NoneType]
    if len(others) != 1 or len(kinds) != 2:
        raise TypeError(f"values of {kinds} could not be told apart")
    some = _codec(others[0])
    return _Codec(
        lambda value: None if value is None else some.encode(value),
        lambda plain: None if plain is None else some.decode(plain),
    )
