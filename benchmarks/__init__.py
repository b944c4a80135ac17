"""Measurements against the peers: each module is a command that prints ratios from one run, processes taking turns."""
