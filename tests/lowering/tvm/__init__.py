"""Tests of targets, engines, verification and the driver."""
