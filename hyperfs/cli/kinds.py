"""Kinds of arguments and options: what a text has to be, and what it becomes.

The rule: what is wrong with a text is said when the command line is read, in words that name the text.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from hyperfs.cli.output import parse_size
from hyperfs.errors import InvalidKey, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from hyperfs.keys import DriveAddress

_ANY_KEY: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class NamedDrive:
    """A drive that was given by a name; ``rest`` is what stands behind it, at a key that means nothing.

    ``why_no_key`` says why it is none, where the name is this store's, or the beginning of a key; None: of the DNS.
    """

    name: str
    rest: "DriveAddress"
    why_no_key: str | None


class DriveParameter(click.ParamType["DriveAddress | NamedDrive"]):
    """A drive: a key in any form, its first digits, what it is called here, or ``dat://NAME``.

    ``+VERSION`` or ``+TAG`` may stand behind it where ``versioned``.

    A path may follow, unless the ``whole`` drive is meant, where it would be passed over. What is no whole key is
    looked for only when the command begins: where and how, other options say.
    """

    name = "key"

    def __init__(self, *, versioned: bool, whole: bool) -> None:
        self._versioned = versioned
        self._whole = whole

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "DriveAddress | NamedDrive":
        """Parse the text; fail as wrong usage with what is wrong."""
        from hyperfs.keys import DriveAddress, parse_address, split_name, split_short

        if isinstance(value, DriveAddress | NamedDrive):
            return value
        named, why_no_key = split_name(value), None
        try:
            try:
                address = parse_address(value if named is None else f"dat://{_ANY_KEY}{named[1]}")
            except InvalidKey as error:
                named, why_no_key = split_short(value), str(error)
                if named is None:
                    raise
                address = parse_address(_ANY_KEY + named[1])
        except InvalidKey as error:
            self.fail(str(error).replace(_ANY_KEY, named[0] if named else ""), param, ctx)
        if not self._versioned and (address.version is not None or address.tag is not None):
            self.fail(f"{value!r} names a version, where only a key is meant", param, ctx)
        if self._whole and address.path:
            self.fail(f"{value!r} names a path, where a whole drive is meant: leave out /{address.path}", param, ctx)
        return address if named is None else NamedDrive(named[0], address, why_no_key)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """Offer the drives that are here; behind a plus sign, their tags."""
        from click.shell_completion import CompletionItem

        from hyperfs.cli.completion import drives_beginning, tags_beginning

        drive, plus, beginning = incomplete.partition("+")
        if plus and self._versioned:
            words = [f"{drive}+{tag}" for tag in tags_beginning(ctx, drive, beginning)]
        else:
            words = drives_beginning(ctx, incomplete)
        return [CompletionItem(word) for word in words]


class PeerParameter(click.ParamType[str]):
    """An address, ``HOST:PORT``, or ``HOST`` where peers listen usually."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the text; fail as wrong usage with what is wrong."""
        from hyperfs.daemon.addresses import format_address, parse_address
        from hyperfs.daemon.ports import DEFAULT_PORT

        try:
            return format_address(*parse_address(value, default_port=DEFAULT_PORT))
        except UsageError as error:
            self.fail(str(error), param, ctx)


class PortParameter(click.types.IntParamType):
    """A port to listen at."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the number; fail as wrong usage with what is wrong."""
        port = super().convert(value, param, ctx)
        if not 1 <= port <= 65535:
            self.fail(f"{value!r} is not a port between 1 and 65535", param, ctx)
        return port


class SecondsParameter(click.types.FloatParamType):
    """A time limit, more than nothing and less than for ever."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the number; fail as wrong usage with what is wrong."""
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r} is not a time to wait: write a number of seconds above 0", param, ctx)
        return seconds


class RateParameter(click.ParamType[int]):
    """A number of bytes a second, with a unit or without; ``none`` is 0, no limit."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse it; fail as wrong usage with what is wrong."""
        if isinstance(value, int):
            return value
        text = str(value).removesuffix("/s")
        rate = 0 if text == "none" else parse_size(text)
        if rate is None:
            self.fail(f"{value!r} is not a rate: write bytes a second, as 500K or 2M, or none", param, ctx)
        if rate == 0 and text != "none":
            self.fail(f"{value!r} would let nothing through: write none for no limit", param, ctx)
        return rate


DRIVE = DriveParameter(versioned=False, whole=True)
DRIVE_AT_VERSION = DriveParameter(versioned=True, whole=True)
PATH_IN_DRIVE = DriveParameter(versioned=False, whole=False)
VERSIONED_DRIVE = DriveParameter(versioned=True, whole=False)
PEER = PeerParameter()
