"""The command line and the developers' tools."""
