"""Experiments: one file each, plain values only."""
