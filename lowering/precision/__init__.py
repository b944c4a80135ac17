"""Lowered precision: a graph in f32 becomes one with its precision in ordinary ops, measured to be good enough and faster.

A graph and a job go in by `driver.compile_lowered`; what may be asked for is in `options`.
"""
