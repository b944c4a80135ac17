"""Tests of the command line and the developers' tools."""
