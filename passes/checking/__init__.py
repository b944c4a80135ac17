"""Checking rewrites one by one on the regions they touch, with real activations and with made-up values that provoke."""

from .checker import RegionChecker, Undone

__all__ = ["RegionChecker", "Undone"]
