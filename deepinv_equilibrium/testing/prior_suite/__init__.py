"""Contracts of priors."""
