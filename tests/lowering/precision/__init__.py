"""Tests of lowered precision: what is chosen, what is measured, and what is told."""
