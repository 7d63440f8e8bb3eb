"""Adjoints, which give a fixed point its gradient, exported by fixed_points."""
