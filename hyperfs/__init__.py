"""hyperfs mounts a Hyperdrive as a folder."""

__version__ = "0.1.0"
