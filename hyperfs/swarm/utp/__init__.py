"""uTP (BEP 29): reliable streams in UDP datagrams, which a NAT lets through where it lets no TCP connection in.

Everything but `stream` is sans I/O, as the DHT is, whose socket it shares: datagrams come in by a call, go out by
another, and time is a `Timers`. What is left open by BEP 29 is done as libutp does it, which the reference speaks.
docs/formats.md, "uTP", has the rules.
"""
