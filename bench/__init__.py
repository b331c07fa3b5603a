"""Measures hyperfs beside the reference implementation, in one run on one machine: `bench/run`.

A figure alone says little, machines differ and drift: what counts is the ratio of two that were measured alternately.
"""
