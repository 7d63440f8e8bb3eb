"""Deep equilibrium models for deepinv, which say whether they converge."""

from . import certificates, datasets, loss, models, optim, physics, plugins
from .certificates import lipschitz
from .fixed_points import (
    CG,
    CGNE,
    GMRES,
    SHINE,
    Anderson,
    Broyden,
    ConvergenceError,
    ConvergenceWarning,
    Implicit,
    JacobianFree,
    Neumann,
    Picard,
    Report,
    Solution,
    Status,
    Unrolled,
    fixed_point,
)
from .optim import Equilibrium, ReTune

__all__ = [
    "CG",
    "CGNE",
    "GMRES",
    "SHINE",
    "Anderson",
    "Broyden",
    "ConvergenceError",
    "ConvergenceWarning",
    "Equilibrium",
    "Implicit",
    "JacobianFree",
    "Neumann",
    "Picard",
    "ReTune",
    "Report",
    "Solution",
    "Status",
    "Unrolled",
    "certificates",
    "datasets",
    "fixed_point",
    "lipschitz",
    "loss",
    "models",
    "optim",
    "physics",
    "plugins",
]
