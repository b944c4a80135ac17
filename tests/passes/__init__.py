"""Tests of the passes: as text, of their manager, of what they keep, and of the work they do."""
