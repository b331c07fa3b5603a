"""Two hosts far from each other on one machine: network namespaces that a `Line` joins. Needs root.

The rule: whatever happens, the process that carries and the namespaces are gone afterwards.
"""

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from .line import Conditions
from .namespaces import Host

_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
_ROOT = Path(__file__).resolve().parent.parent.parent
_MOST_WAITING = "10000"
"""Packets that a device keeps until the line takes them: a burst between two rounds is no loss of the line's."""


class Carrier:
    """The process that carries; `report` ends it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def report(self) -> dict[str, float]:
        """End it, and return how many packets it carried and dropped, and the seconds of a processor that took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        told: dict[str, float] = json.loads(self._process.stdout.readline())
        return told


@contextmanager
def far_hosts(conditions: Conditions, *, congestion_control: str | None = None) -> Iterator[tuple[Host, Host, Carrier]]:
    """Make two hosts that reach each other over a line, and nobody else.

    ``congestion_control`` is TCP's on both, the machine's own unless given. The kernel lets a namespace choose only
    what every user of the machine may, so that one is allowed to all from then on.
    """
    with hosts_around([conditions], congestion_control=congestion_control) as (near, far, carriers):
        yield near[0], far[0], carriers[0]


@contextmanager
def hosts_around(
    lines: Sequence[Conditions], *, congestion_control: str | None = None
) -> Iterator[tuple[list[Host], list[Host], list[Carrier]]]:
    """Make one host that reaches as many others as there are ``lines``, each over its own.

    Given are that host once for each line, with its address there, the others, and who carries. ``congestion_control``
    as for `far_hosts`.
    """
    number = secrets.token_hex(4)
    here = f"hyperfs-{number}-a"
    near = [Host(here, f"10.78.{line}.1") for line in range(len(lines))]
    far = [Host(f"hyperfs-{number}-b{line}", f"10.78.{line}.2") for line in range(len(lines))]
    names = [here, *(host.name for host in far)]
    if congestion_control is not None and congestion_control not in _ALLOWED.read_text().split():
        # the kernel takes what stands before the first line break
        _ALLOWED.write_text(f"{_ALLOWED.read_text().strip()} {congestion_control}")
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            if congestion_control is not None:
                wrapper = Host(name, "").wrapper
                _run(*wrapper, "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={congestion_control}")
        with ExitStack() as stack:
            carriers = [
                stack.enter_context(_line(f"far{number}{line}", f"cable{line or ''}", ends, conditions))
                for line, (conditions, ends) in enumerate(zip(lines, zip(near, far, strict=True), strict=True))
            ]
            yield near, far, carriers
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def _line(device: str, name: str, ends: tuple[Host, Host], conditions: Conditions) -> Iterator[Carrier]:
    """Join two hosts by a line, whose device is called ``name`` on both."""
    devices = [f"{device}{end}" for end in "ab"]
    command = [sys.executable, "-m", "tests.support.line_process", *devices, json.dumps(asdict(conditions))]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "the line's process ended before it was ready"
            for host, made in zip(ends, devices, strict=True):
                _ip("link", "set", made, "netns", host.name, "name", name)
                _ip("-n", host.name, "link", "set", name, "txqueuelen", _MOST_WAITING)
                _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", name)
                _ip("-n", host.name, "link", "set", name, "up")
            yield Carrier(process)
        finally:
            process.kill()


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
