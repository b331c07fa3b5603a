"""The commands: parse, call, print.

The rule: a command is a thin client. It reads what is here by itself and asks the daemon for the rest; what it imports
costs nothing to load until a command really runs, so that ``hyperfs --help`` answers at once.
"""
