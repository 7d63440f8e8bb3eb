"""Benchmarks against deepinv and torchdeq on the same problem."""
