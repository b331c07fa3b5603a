"""``python -m bench.dht``: lookups in a simulated DHT whose nodes come and go, on a virtual clock.

Prints, for a quiet network and one with churn, how many lookups found what was announced, in how many hops and
messages, and after how much virtual time the first address was there.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from pathlib import Path

from bench.dht_network import SimulatedNetwork
from hyperfs.swarm.dht.node import DhtNode

_AT_ONCE = 100
_TOPICS = 20
_LOOKUPS_EACH = 10
_SETTLE_SECONDS = 30.0


def main() -> int:
    """Run the simulation; exit status 1 when a lookup in the quiet network found nothing."""
    parser = argparse.ArgumentParser(prog="python -m bench.dht", description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=10.0, help="of churn, by the virtual clock")
    parser.add_argument("--half-life", type=float, default=60.0, help="minutes until half of the nodes are others")
    parser.add_argument("--loss", type=float, default=0.01, help="the part of datagrams that is lost")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the figures are written")
    arguments = parser.parse_args()

    began = time.monotonic()
    network = SimulatedNetwork(arguments.seed, loss=arguments.loss)
    network.join(network.add())
    for _ in range(0, arguments.nodes - 1, _AT_ONCE):
        _add(network, min(_AT_ONCE, arguments.nodes - len(network.nodes)))
        network.run(2.0)
    network.run(_SETTLE_SECONDS)
    _say(f"{len(network.nodes)} nodes joined with {network.sent / len(network.nodes):.0f} datagrams each", began)

    topics = [network.rng.randbytes(32) for _ in range(_TOPICS)]
    announcers = network.rng.sample(list(network.nodes.values()), _TOPICS)
    for node, topic in zip(announcers, topics, strict=True):
        network.keep_announced(node, topic)
    network.run(_SETTLE_SECONDS)
    figures = {"quiet": _look_up(network, topics)}

    seconds = arguments.minutes * 60
    leaving = arguments.nodes * (1 - 0.5 ** (arguments.minutes / arguments.half_life)) / seconds
    kept = {id(node) for node in announcers}
    owed = 0.0
    for _ in range(round(seconds)):
        owed += leaving
        whole, owed = int(owed), owed - int(owed)
        _churn(network, whole, kept)
        network.run(1.0)
    _say(f"{arguments.minutes:g} minutes of churn, {leaving:.1f} nodes a second", began)
    figures["churn"] = _look_up(network, topics)

    print(f"{'network':8} {'found':>8} {'hops':>6} {'messages':>9} {'first address':>14}")
    for name, row in figures.items():
        found = f"{row['found']:.0f}/{row['lookups']:.0f}"
        print(f"{name:8} {found:>8} {row['hops']:6.1f} {row['messages']:9.0f} {row['seconds']:12.2f} s")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if figures["quiet"]["found"] == figures["quiet"]["lookups"] else 1


def _add(network: SimulatedNetwork, count: int) -> None:
    there = list(network.nodes)
    for _ in range(count):
        network.add(bootstrap=[network.rng.choice(there)]).join()


def _churn(network: SimulatedNetwork, count: int, kept: set[int]) -> None:
    mortal = [node for node in network.nodes.values() if id(node) not in kept]
    for node in network.rng.sample(mortal, count):
        network.remove(node)
    _add(network, count)


def _look_up(network: SimulatedNetwork, topics: list[bytes]) -> dict[str, float]:
    nodes: list[DhtNode] = network.rng.choices(list(network.nodes.values()), k=len(topics) * _LOOKUPS_EACH)
    lookups = network.lookup_all([(node, topics[number % len(topics)]) for number, node in enumerate(nodes)])
    good = [lookup for lookup in lookups if lookup.found]
    return {
        "lookups": len(lookups),
        "found": len(good),
        "hops": statistics.mean(lookup.report.hops for lookup in good) if good else 0.0,
        "messages": statistics.mean(lookup.report.asked + lookup.report.answers for lookup in good) if good else 0.0,
        "seconds": statistics.mean(lookup.seconds for lookup in good) if good else 0.0,
    }


def _say(text: str, began: float) -> None:
    print(f"{text} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)


if __name__ == "__main__":
    gc.set_threshold(100_000)  # looking through millions of objects for cycles takes longer than anything else
    sys.exit(main())
