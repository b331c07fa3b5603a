"""The files that hold staged bytes: they hold all of them, and what a crash could still lose is known."""

import os
import random
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


def test_a_large_write_is_made_whole_also_by_a_disk_that_takes_a_part_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = Segments(tmp_path)
    segment = segments.make()
    data = random.Random(1).randbytes(300_001)
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, place: pwrite(fd, data[:50_000], place))
    segment.append(b"before")
    place = segment.append(data)
    assert segment.read(place, len(data)) == data
    segments.close()
