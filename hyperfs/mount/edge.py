"""The edges of a mount: between pyfuse3 and the operations, and between its tasks and the session that they run in.

The rule: nothing but `pyfuse3.FUSEError` and cancellation leaves an operation, and nothing but cancellation a task;
anything else would take the folder away under its users.
"""

import errno
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import pyfuse3
import trio

from hyperfs.errors import HyperfsError, errno_of

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 2.0

P = ParamSpec("P")
T = TypeVar("T")


def answers_errors(operation: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Answer what an operation raises with its errno; log what nobody expected, and answer it with EIO."""

    @functools.wraps(operation)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await operation(*args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except (HyperfsError, OSError) as error:
            logger.debug("%s: %s", operation.__name__, error)
            raise pyfuse3.FUSEError(errno_of(error)) from error
        except Exception as error:  # the edge: one that gets out would end the whole mount
            logger.exception("%s failed unexpectedly", operation.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from error

    return guarded


async def keep_going(task: Callable[[], Awaitable[None]]) -> None:
    """Run a task for as long as the mount lasts: log what it fails of, and begin it again after a pause."""
    while True:
        try:
            return await task()
        except Exception:  # the edge: one that gets out would end the whole mount
            logger.exception("a task of the mount failed unexpectedly; it begins again in %g seconds", AGAIN_SECONDS)
            await trio.sleep(AGAIN_SECONDS)
