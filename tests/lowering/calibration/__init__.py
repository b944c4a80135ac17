"""Tests of calibration: where samples come from, what is observed on them, and which ranges follow."""
