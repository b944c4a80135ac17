"""Compiled programs held against the corpora."""
