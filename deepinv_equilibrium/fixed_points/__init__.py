"""Fixed points of steps, and their gradients. Imports torch and NumPy,
never deepinv."""

from .adjoints.adjoint import Adjoint
from .adjoints.implicit import Implicit
from .adjoints.jacobian_free import JacobianFree
from .adjoints.neumann import Neumann
from .adjoints.recording import Cotangent, Recording
from .adjoints.shine import SHINE
from .adjoints.unrolled import Unrolled
from .failures import (
    ConvergenceError,
    ConvergenceWarning,
    FailurePolicy,
    OnFailure,
)
from .processes import ALONE, Processes
from .solution import LowRankInverse, Report, Solution, Status
from .solve import attach_gradient, fixed_point
from .solvers.anderson import Anderson
from .solvers.broyden import Broyden
from .solvers.cg import CG
from .solvers.cgne import CGNE
from .solvers.cgnr import CGNR
from .solvers.fixed_point_solver import FixedPointSolver, Iteration
from .solvers.gmres import GMRES
from .solvers.inertial import Inertial
from .solvers.linear_solver import LinearOperator, LinearSolver
from .solvers.picard import Picard, Restarts
from .solvers.safeguarded import Safeguarded
from .solvers.solver import Solver
from .state import State, StateLayout
from .step import HasDomain, HasOutput, OfSamples, Step

__all__ = [
    "ALONE",
    "CG",
    "CGNE",
    "CGNR",
    "GMRES",
    "SHINE",
    "Adjoint",
    "Anderson",
    "Broyden",
    "ConvergenceError",
    "ConvergenceWarning",
    "Cotangent",
    "FailurePolicy",
    "FixedPointSolver",
    "HasDomain",
    "HasOutput",
    "Implicit",
    "Inertial",
    "Iteration",
    "JacobianFree",
    "LinearOperator",
    "LinearSolver",
    "LowRankInverse",
    "Neumann",
    "OfSamples",
    "OnFailure",
    "Picard",
    "Processes",
    "Recording",
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
    "attach_gradient",
    "fixed_point",
]
