"""Tests of the passes that lower precision, and of what they are made of."""
