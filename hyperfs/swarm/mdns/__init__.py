"""Peers on the local network, by multicast DNS; docs/formats.md, "Finding peers".

Everything but `service` is sans I/O: messages come in by a call and go out as what it returns.
"""
