"""Benchmarks: rates, sizes and pictures, each a command of its own."""
