"""Finding peers, and opening and accepting connections to them.

The one rule: this room moves addresses and sockets; what is said over a socket is `hyperfs.replication`'s alone.
"""

from hyperfs.swarm.swarm import Listening, Swarm

__all__ = ["Listening", "Swarm"]
