"""Executing notebooks: runner, kernels, sweeps."""
