"""The files that hold staged bytes: what of them a crash could still lose is known."""

import os
from pathlib import Path

import pytest

from hyperfs.mount.staging.segments import Segments


def test_what_is_written_while_a_sync_begins_is_left_to_the_next_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = Segments(tmp_path)
    segment = segments.make()
    segment.append(b"before")
    pwrite = os.pwrite

    def pwrite_while_a_thread_syncs(fd: int, data: bytes, place: int) -> int:
        segment.sync()
        return pwrite(fd, data, place)

    monkeypatch.setattr(os, "pwrite", pwrite_while_a_thread_syncs)
    segment.append(b"after")
    assert segments.unsynced() == [segment]
    segments.close()
