"""Fixed points of steps and their gradients. Knows torch only, nothing of imaging."""

from .adjoints import SHINE, Adjoint, Implicit, JacobianFree, Neumann, Unrolled
from .failures import ConvergenceError, ConvergenceWarning, OnFailure
from .solution import LowRankInverse, Report, Solution
from .solve import fixed_point
from .solvers import (
    CG,
    CGNE,
    GMRES,
    Anderson,
    Broyden,
    FixedPointSolver,
    LinearOperator,
    LinearSolver,
    Picard,
    Restarts,
    Safeguarded,
    Solver,
)
from .state import State, StateLayout
from .status import Status
from .step import HasDomain, HasOutput, Step

__all__ = [
    "CG",
    "CGNE",
    "GMRES",
    "SHINE",
    "Adjoint",
    "Anderson",
    "Broyden",
    "ConvergenceError",
    "ConvergenceWarning",
    "FixedPointSolver",
    "HasDomain",
    "HasOutput",
    "Implicit",
    "JacobianFree",
    "LinearOperator",
    "LinearSolver",
    "LowRankInverse",
    "Neumann",
    "OnFailure",
    "Picard",
    "Report",
    "Restarts",
    "Safeguarded",
    "Solution",
    "Solver",
    "State",
    "StateLayout",
    "Status",
    "Step",
    "Unrolled",
    "fixed_point",
]
