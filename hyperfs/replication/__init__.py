"""A core's peers: what to ask of whom, and what to give to whom.

Nothing that a peer says is believed before it is verified, and a peer that breaks the rules is dropped by name and
asked no more. Start at `hyperfs.replication.replicator.Replicator`.
"""

from hyperfs.replication.replicator import Replicator
from hyperfs.replication.status import CoreStatus, Ending, EndReason, Follow, PeerStatus, ReplicationStatus

__all__ = ["CoreStatus", "EndReason", "Ending", "Follow", "PeerStatus", "ReplicationStatus", "Replicator"]
