"""Giving pages to the kernel, without one."""

import errno

import pyfuse3
import pytest

from hyperfs.mount import pages
from tests.support.drives import new_drive


async def test_a_kernel_that_takes_no_pages_is_asked_no_more_of(monkeypatch: pytest.MonkeyPatch) -> None:
    own = await new_drive()
    await own.writer.put_file("f", b"abc")
    snapshot = own.drive.snapshot()
    file = await snapshot.open(await snapshot.stat("f"))

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOENT, "unknown inode")

    monkeypatch.setattr(pyfuse3, "notify_store", refuse)
    assert not pages.give(2, file)
