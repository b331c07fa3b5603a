"""A drive that one host serves and another has mounted, and a cable between them that is cut."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..support.commands import Hyperfs, eventually, hyperfs_in
from ..support.namespaces import Host, two_hosts
from ..support.patterns import pattern

PORT = 3282


@dataclass(frozen=True, slots=True)
class Apart:
    """``key`` is served on the one host and mounted at ``folder`` by the other, whose end of the cable is ``near``."""

    server: Hyperfs
    reader: Hyperfs
    source: Path
    key: str
    folder: Path
    near: Host


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    directory = tmp_path_factory.mktemp("apart")
    for name in ("source", "mnt"):
        (directory / name).mkdir()
    for name in ("before", "while-cut", "after"):
        (directory / "source" / name).write_bytes(pattern(name, 1_000_000))
    with (
        two_hosts() as (far, near),
        hyperfs_in(directory, "server") as server,
        hyperfs_in(directory, "reader") as reader,
    ):
        key = server("import", directory / "source", wrapper=far.wrapper).strip()
        server("serve", key, "--listen", f"{far.address}:{PORT}")
        reader(
            *("mount", key, directory / "mnt", "--peer", f"{far.address}:{PORT}", "--timeout", "5"),
            wrapper=near.wrapper,
        )
        yield Apart(server, reader, directory / "source", key, directory / "mnt", near)


def test_a_mount_reads_from_another_host(apart: Apart) -> None:
    assert (apart.folder / "before").read_bytes() == pattern("before", 1_000_000)
    assert sorted(os.listdir(apart.folder)) == sorted(os.listdir(apart.source))


def test_while_the_cable_is_cut_what_is_here_is_read_and_the_rest_is_an_error(apart: Apart) -> None:
    assert (apart.folder / "before").read_bytes() == pattern("before", 1_000_000)
    apart.near.cut()
    try:
        with pytest.raises(OSError, match="Input/output error"):
            (apart.folder / "while-cut").read_bytes()
        assert (apart.folder / "before").read_bytes() == pattern("before", 1_000_000)
        eventually(lambda: re.search("while-cut.*missing: block", apart.reader.log))
    finally:
        apart.near.mend()
    eventually(lambda: readable(apart.folder / "while-cut"))
    assert (apart.folder / "while-cut").read_bytes() == pattern("while-cut", 1_000_000)


def test_once_the_cable_is_back_new_versions_are_followed(apart: Apart) -> None:
    apart.near.cut()
    (apart.source / "new").write_text("new")
    apart.server("import", apart.source, apart.key)
    assert not (apart.folder / "new").exists()
    apart.near.mend()
    eventually((apart.folder / "new").exists)
    assert (apart.folder / "after").read_bytes() == pattern("after", 1_000_000)


def readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True
