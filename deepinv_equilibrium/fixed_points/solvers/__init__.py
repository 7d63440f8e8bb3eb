"""Solvers of fixed-point equations and of linear systems, exported by fixed_points."""
