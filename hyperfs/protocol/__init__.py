"""The wire, sans I/O: bytes of a peer in, events out; messages in, bytes for the peer out.

Nothing here waits, reads a clock or touches a socket; whatever a peer sends either becomes an event or raises
`hyperfs.errors.PeerMisbehaved`. Start at `hyperfs.protocol.connection.Connection`.
"""
