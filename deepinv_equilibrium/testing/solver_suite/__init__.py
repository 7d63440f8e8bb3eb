"""Contracts of solvers."""
