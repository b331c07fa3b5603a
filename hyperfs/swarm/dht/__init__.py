"""Hyperswarm 2's distributed hash table: who has announced a topic, and small values that anybody may keep.

Everything but `service` is sans I/O: datagrams come in by a call, go out by another, and time is a `Timers`; so one
node on a socket and ten thousand on a virtual clock are the same code. docs/formats.md, "Finding peers", has the rules.
"""
