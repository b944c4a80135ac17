"""Kernels for GPUs, run on a CPU in place of one."""
