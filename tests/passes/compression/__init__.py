"""Tests of what makes models smaller."""
