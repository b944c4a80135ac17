"""Graphs that treat the entries of a dim apart: whether one does, and along which axes."""

from .walking import Hindrance, Mapped, mapping_of, open_dims

__all__ = ["Hindrance", "Mapped", "mapping_of", "open_dims"]
