"""When a connection that is not to stay has done its work: neither side wants anything more of a core.

The rule: who wants nothing more says so, once, by a Status; whoever has said it, and heard it, closes the channel; and
a connection without channels ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hyperfs.replication.exchange import Exchange
    from hyperfs.replication.peer import Peer


def finish(exchange: Exchange, peer: Peer) -> None:
    """Tell ``peer`` when nothing more is wanted of it, and close its channel when it wants nothing, either."""
    if not peer.is_open or wants_more(exchange, peer):
        return
    if not peer.is_done:
        peer.is_done = True
        peer.downloading = False
        peer.channel.send_status(uploading=peer.haves.uploading, downloading=False)
        peer.link.wake()
    if not (peer.remote_downloading and peer.haves.uploading):
        peer.link.channels.close(peer)


def wants_more(exchange: Exchange, peer: Peer) -> bool:
    """Tell whether ``peer`` may have something that is wanted here.

    Of somebody else's core of which only what is asked for is downloaded that is never known.
    """
    core = exchange.core
    if not peer.downloading:
        return False
    if any(demand is not exchange.everything for demand in exchange.demands):
        return True
    if core.writable:
        return False
    if exchange.everything is None:
        return True
    if not peer.remote_uploading:
        return False
    if not peer.heard.is_set() or peer.wants.pending or len(peer.requests):
        return True
    if peer.availability.claimed_length > core.length:
        return True
    return any(
        peer.availability.next_run(missing.start, missing.stop) is not None for missing in core.missing(0, core.length)
    )
