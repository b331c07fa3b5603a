"""What every call to the daemon is: a dataclass of arguments, and an answer of a type that it names.

The rule: both ends decode by the same class, so that whoever holds a call or an answer checks nothing again.
"""

from typing import Any, ClassVar, Generic, TypeVar, get_args

from hyperfs.daemon.codec import from_plain, to_plain

Answer = TypeVar("Answer")


class Call(Generic[Answer]):
    """Something that can be asked of the daemon; each is a dataclass, its fields the arguments."""

    __slots__ = ()

    method: ClassVar[str]
    repeatable: ClassVar[bool] = False
    """Whether it changes nothing that asking twice would change twice."""

    def encoded(self) -> dict[str, Any]:
        """Return the arguments as plain values."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def encode_answer(cls, answer: Answer) -> Any:
        """Return an answer as plain values."""
        return to_plain(answer, cls._answer_kind())

    @classmethod
    def decode_answer(cls, plain: Any) -> Answer:
        """Return the answer that arrived as plain values. Raises `EncodingError`."""
        answer: Answer = from_plain(cls._answer_kind(), plain)
        return answer

    @classmethod
    def _answer_kind(cls) -> Any:
        return get_args(cls.__orig_bases__[0])[0]  # type: ignore[attr-defined]  # every generic class has them
