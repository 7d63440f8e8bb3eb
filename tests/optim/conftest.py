"""Fixtures: the test problems of the algorithms."""

from __future__ import annotations

from .problems import algorithm, make_denoiser, make_prior, make_problem

__all__ = ["algorithm", "make_denoiser", "make_prior", "make_problem"]
