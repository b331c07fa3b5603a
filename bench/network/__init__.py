"""Measures a drive that is far away: hyperfs and the reference in every pairing, each figure over a line of its own.

    python -m bench.network [--quick] [--only NAME]... [--reader SIDE] [--server SIDE] [--json FILE]

Needs root, and iperf3 to say what the line itself carries.
"""
