"""Contracts of adjoints."""
