"""hyperfs mounts a Hyperdrive as a folder."""
