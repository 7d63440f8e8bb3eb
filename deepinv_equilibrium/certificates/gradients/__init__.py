"""Errors of the gradients that the adjoints return."""
