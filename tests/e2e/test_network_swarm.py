"""The reference's swarm and hyperfs find each other by a topic, and replicate a drive, whoever of them has it.

They are on hosts of their own, and nobody tells anybody an address: by the DHT, whose first node is ours, or by
multicast DNS alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..support.commands import Hyperfs, hyperfs_in
from ..support.network import NetworkHost, first_node, network
from ..support.patterns import pattern, sha256
from ..support.reference_process import ReferenceProcess, reference_process

NAME = "file"
SIZE = 300_000


@dataclass(frozen=True, slots=True)
class Meeting:
    """Our host and theirs, in one network."""

    hyperfs: Hyperfs
    near: NetworkHost
    reference: ReferenceProcess

    def ours(self, *arguments: str | Path) -> str:
        """Run a command of ours that must succeed."""
        return self.hyperfs(*arguments, wrapper=self.near.wrapper)

    def join(self, drive: str, *, announce: bool) -> None:
        """Have the reference announce a drive, or else look for it."""
        topic = self.reference.call("drive.info", drive=drive)["discoveryKey"]
        self.reference.call("swarm.join", topic=topic, announce=announce, lookup=not announce)


@pytest.fixture(params=["the DHT", "multicast DNS"])
def meeting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Meeting]:
    with network() as switch, first_node(switch) as first:
        near, far = switch.host(), switch.host()
        by_dht = request.param == "the DHT"
        environment = {"HYPERFS_NO_DHT": "0", "HYPERFS_BOOTSTRAP": first} if by_dht else {"HYPERFS_NO_MDNS": "0"}
        with (
            hyperfs_in(tmp_path, **environment) as hyperfs,
            reference_process(wrapper=far.wrapper) as reference,
        ):
            reference.call("swarm.start", bootstrap=[first] if by_dht else [])
            yield Meeting(hyperfs, near, reference)


def test_we_find_what_the_reference_announces_and_fetch_it(meeting: Meeting, tmp_path: Path) -> None:
    key = meeting.reference.call("drive.open")["key"]
    meeting.reference.call("drive.write", drive=key, path=f"/{NAME}", data={"size": SIZE, "seed": NAME})
    meeting.join(key, announce=True)
    meeting.ours("export", key, tmp_path / "copy")
    assert (tmp_path / "copy" / NAME).read_bytes() == pattern(NAME, SIZE)


def test_the_reference_finds_what_we_announce_and_fetches_it(meeting: Meeting, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / NAME).write_bytes(pattern(NAME, SIZE))
    key = meeting.ours("import", folder).strip()
    meeting.ours("serve", key)
    meeting.reference.call("drive.open", key=key)
    meeting.join(key, announce=False)
    meeting.reference.call("drive.update", drive=key, version=2)
    found = meeting.reference.call("drive.read", drive=key, path=f"/{NAME}")["sha256"]
    assert found == sha256(pattern(NAME, SIZE))
