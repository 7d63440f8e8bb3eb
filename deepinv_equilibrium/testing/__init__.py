"""Contract suites for solvers, adjoints, denoisers, priors, physics and models."""

from .adjoint_suite.adjoint_case import exact_adjoint, neumann_sum
from .adjoint_suite.adjoint_contracts import adjoint_contracts, check_adjoint
from .contracts import Contract, ContractError, ContractReport
from .denoiser_suite import check_denoiser, denoiser_contracts
from .model_suite import check_model, model_contracts
from .physics_suite import check_physics, physics_contracts
from .prior_suite.prior_contracts import check_prior, prior_contracts
from .solver_suite.linear_solver_contracts import (
    check_linear_solver,
    linear_solver_contracts,
)
from .solver_suite.solver_contracts import check_solver, solver_contracts

__all__ = [
    "Contract",
    "ContractError",
    "ContractReport",
    "adjoint_contracts",
    "check_adjoint",
    "check_denoiser",
    "check_linear_solver",
    "check_model",
    "check_physics",
    "check_prior",
    "check_solver",
    "denoiser_contracts",
    "exact_adjoint",
    "linear_solver_contracts",
    "model_contracts",
    "neumann_sum",
    "physics_contracts",
    "prior_contracts",
    "solver_contracts",
]
