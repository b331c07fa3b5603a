"""``hyperfs dht`` is a node that others begin with, until it is told to end."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from hyperfs.daemon.addresses import parse_address
from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.service import open_dht

TOPIC = bytes(range(32))
LIMIT_SECONDS = 240


@contextmanager
def running(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", Address]]:
    """Run ``hyperfs dht`` at a free port; yield the process and where it answers."""
    command = [sys.executable, "-m", "hyperfs.cli.main", "dht", "--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            yield process, Address(*parse_address(words[-1]))
        finally:
            process.kill()


async def test_others_find_each_other_by_it() -> None:
    with trio.fail_after(LIMIT_SECONDS), running() as (_, first), running("--bootstrap", str(first)) as (_, second):
        async with open_dht("127.0.0.1", bootstrap=[first]) as one, open_dht("127.0.0.1", bootstrap=[second]) as other:
            while [peer.address async for peer in other.lookup(TOPIC)] != [Address("127.0.0.1", 4000)]:
                async for _ in one.announce(TOPIC, port=4000):
                    continue  # again, as the second node may not have joined the first one yet


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_a_signal_while_it_waits_for_whom_it_begins_with(number: signal.Signals) -> None:
    with running("--bootstrap", "127.0.0.1:9") as (process, _):
        process.send_signal(number)
        assert process.wait(LIMIT_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
