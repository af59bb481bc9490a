"""Grids of runs: expanded, started here or on SLURM, and watched."""
