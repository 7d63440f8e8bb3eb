"""Fixtures of the tests of optimisers."""

from __future__ import annotations

from ..optim.problems import algorithm, make_denoiser, make_prior, make_problem

__all__ = ["algorithm", "make_denoiser", "make_prior", "make_problem"]
