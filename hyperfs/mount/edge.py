"""The edge between pyfuse3 and the operations.

The rule: nothing but `pyfuse3.FUSEError` and cancellation leaves an operation; anything else would end the whole mount.
"""

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import pyfuse3

from hyperfs.errors import HyperfsError, errno_of

logger = logging.getLogger(__name__)

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
