"""Components that are offered to ``deepinv_equilibrium`` by their names."""

from .adjoint import RateCorrected
from .denoiser import WienerDenoiser
from .solver import BarzilaiBorwein

__all__ = ["BarzilaiBorwein", "RateCorrected", "WienerDenoiser"]
