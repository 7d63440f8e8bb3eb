"""Contracts of reconstructors."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch
from deepinv.models import Reconstructor
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..certificates.image_size import require_image_size
from ..certificates.spectra.double_precision import double_copy
from ..certificates.spectra.physics_operator import batch_size, device_of
from ..equilibrium import EquilibriumModel
from ..fixed_points import Implicit, Solution, Solver, Status, Unrolled
from .contracts import (
    Contract,
    ContractReport,
    NotApplicableError,
    Suite,
    require,
    require_close,
)
from .model_gradients import require_gradient
from .random_problems import F64, generator, normal
from .wrong_inputs import require_refusals

S = TypeVar("S", bound=Solver)


@dataclass(frozen=True)
class ModelCase:
    """The arguments of :func:`check_model`."""

    component: Reconstructor
    physics: LinearPhysics
    img_size: Sequence[int]
    exact_gradient: bool | None = None
    rtol: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.component, Reconstructor):
            raise TypeError(
                "model must be a deepinv.models.Reconstructor, got "
                f"{type(self.component).__name__}."
            )
        if not isinstance(self.physics, LinearPhysics):
            raise TypeError(
                "physics must be a deepinv.physics.LinearPhysics, got "
                f"{type(self.physics).__name__}."
            )
        require_image_size(self.img_size)

    @property
    def double(self) -> Reconstructor:
        """A fresh copy in float64, with tight tolerances at equilibrium."""
        model = copy.deepcopy(self.component).double()
        _set_tolerance(model, 1e-10)
        return model

    @property
    def single(self) -> Reconstructor:
        """A fresh copy in float32, with tolerances that can be met."""
        model = copy.deepcopy(self.component).float()
        _set_tolerance(model, 1e-4)
        return model

    @property
    def gradient_is_exact(self) -> bool:
        """Whether the gradient is exact: as declared, or as the adjoint decides."""
        if self.exact_gradient is not None:
            return self.exact_gradient
        if not isinstance(self.component, EquilibriumModel):
            return True
        config = self.component.DEQ
        return config is None or isinstance(config.adjoint, Implicit | Unrolled)

    @cached_property
    def double_physics(self) -> LinearPhysics:
        """Copy of the physics in float64."""
        return double_copy(self.physics)

    @property
    def shared(self) -> bool:
        """Whether all images have the same physics."""
        return batch_size(self.physics) == 1

    @cached_property
    def y(self) -> Tensor:
        """Measurements of images in [0, 1] without noise, in float64."""
        batch = 3 if self.shared else batch_size(self.physics)
        shape = (batch, *self.img_size)
        x = torch.rand(shape, generator=generator(90), dtype=F64)
        with torch.no_grad():
            return self.double_physics.A(x.to(device_of(self.physics)))

    @cached_property
    def reconstructed(self) -> tuple[Reconstructor, Tensor, Solution | None]:
        """A copy in float64 after a call without gradients, the result of the call, and
        its solution, which later calls of the copy replace."""
        model = self.double
        with torch.no_grad():
            x = model(self.y, self.double_physics)
        return model, x, getattr(model, "solution", None)


def _set_tolerance(model: Reconstructor, rtol: float) -> None:
    """Set the tolerance of a model at equilibrium, forward and backward, unless its
    number of iterations is fixed."""
    if not isinstance(model, EquilibriumModel) or model.DEQ is None:
        return
    config = model.DEQ
    if config.solver.has_fixed_budget:
        return
    adjoint = config.adjoint
    if isinstance(adjoint, Implicit):
        adjoint = replace(adjoint, solver=_tolerant(adjoint.solver, rtol))
    solver = _tolerant(config.solver, rtol)
    model.DEQ = replace(config, solver=solver, adjoint=adjoint)


def _tolerant(solver: S, rtol: float) -> S:
    return replace(solver, rtol=rtol, atol=0.0, max_iter=max(solver.max_iter, 3000))


def returns_images(case: ModelCase) -> None:
    """The result is finite and has the shape and the dtype of the images, in float32
    and float64. A second call returns the same. The measurement and the ``state_dict``
    are not changed."""
    for dtype, model, physics in (
        (torch.float32, case.single, case.physics),
        (F64, case.double, case.double_physics),
    ):
        state = copy.deepcopy(model.state_dict())
        y = _cast(case.y, dtype)
        kept = y.clone()
        with torch.no_grad():
            first, second = model(y, physics), model(y, physics)
        expected = (len(y), *case.img_size)
        require(
            first.shape == expected,
            f"the result has shape {tuple(first.shape)}, not {expected}",
        )
        require(
            first.dtype == dtype, f"measurements in {dtype} give {first.dtype} images"
        )
        require(first.isfinite().all(), f"the result in {dtype} has NaN or infinity")
        require_close("the result of a second call", second, first, 1e-12)
        require(torch.equal(y, kept), "the measurement is changed in place")
        for name, value in model.state_dict().items():
            same = not isinstance(value, Tensor) or torch.equal(value, state[name])
            require(same, f"the call changes {name!r} of the state_dict")


def keeps_samples_apart(case: ModelCase) -> None:
    """A reconstructed image does not depend on the other measurements of the batch."""
    if not case.shared:
        raise NotApplicableError("the physics has parameters for a batch")
    model, together, _ = case.reconstructed
    rtol = 1e-10 + case.rtol
    with torch.no_grad():
        order = list(range(len(case.y)))[::-1]
        other = model(case.y[order], case.double_physics)
        require_close("the result of a reversed batch", other, together[order], rtol)
        for i in range(len(case.y)):
            alone = model(case.y[i : i + 1], case.double_physics)[0]
            require_close(f"image {i} alone", alone, together[i], rtol)


def has_the_gradient_of_its_values(case: ModelCase) -> None:
    """The gradients of all parameters and of the measurement agree with central
    differences."""
    if not case.gradient_is_exact:
        raise NotApplicableError("the gradient is an approximation")
    require_gradient(case.double, case.y, case.double_physics, 1e-4 + case.rtol)


def restores_its_state(case: ModelCase) -> None:
    """A ``state_dict`` that was saved and loaded gives the same result."""
    model, expected, _ = case.reconstructed
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other = case.double
    count = 0
    with torch.no_grad():
        for k, parameter in enumerate(other.parameters()):
            if parameter.is_floating_point():
                parameter.add_(0.1 * normal(*parameter.shape, seed=k).to(parameter))
                count += 1
    other.load_state_dict(torch.load(buffer, weights_only=True))
    with torch.no_grad():
        found = other(case.y, case.double_physics)
    what = f"the result after {count} parameters were changed and loaded again"
    require_close(what, found, expected, 1e-9 + case.rtol)


def fills_its_solution(case: ModelCase) -> None:
    """After a call, ``solution`` of an equilibrium model reports every sample, and no
    sample has failed."""
    model = case.component
    if not isinstance(model, EquilibriumModel) or model.DEQ is None:
        raise NotApplicableError("not a model at equilibrium")
    _, _, solution = case.reconstructed
    require(solution is not None, "solution is None after a call")
    assert solution is not None
    statuses = [status.name for status in solution.status]
    require(
        len(statuses) == len(case.y),
        f"solution has {len(statuses)} statuses for {len(case.y)} samples",
    )
    require(solution.failed_count == 0, f"the statuses are {statuses}")
    require(Status.NONFINITE not in solution.status, f"the statuses are {statuses}")


def refuses_wrong_input(case: ModelCase) -> None:
    """Wrong inputs raise a TypeError or a ValueError that names the argument."""
    y = _cast(case.y, torch.float32)
    require_refusals(copy.deepcopy(case.component), y, case.physics)


def _cast(y: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a real or complex tensor in another precision."""
    return y.to(dtype.to_complex()) if y.is_complex() else y.to(dtype)


_SUITE = Suite(
    ModelCase,
    returns_images,
    keeps_samples_apart,
    has_the_gradient_of_its_values,
    restores_its_state,
    fills_its_solution,
    refuses_wrong_input,
)


def model_contracts() -> dict[str, Contract[..., ModelCase]]:
    """Return the contracts of :func:`check_model` by name."""
    return dict(_SUITE.contracts)


def check_model(
    model: Reconstructor,
    physics: LinearPhysics,
    img_size: Sequence[int],
    exact_gradient: bool | None = None,
    rtol: float = 0.0,
) -> ContractReport:
    r"""
    Check the gradients, the ``state_dict``, the batches and the input checks of a
    reconstructor.

    Copies of the model reconstruct measurements of random images in :math:`[0, 1]`. The
    copies of a model at equilibrium have the tolerance 1e-4 in float32 and 1e-10 in
    float64, forward and backward, unless its ``DEQ`` fixes the number of iterations.
    :func:`model_contracts` returns the contracts.

    :param deepinv.models.Reconstructor model: the model.
    :param deepinv.physics.LinearPhysics physics: a physics that it takes, in float32.
    :param Sequence img_size: size of an image without the batch, :math:`(C, H, W)`:
        small, as the model runs some dozens of times.
    :param bool exact_gradient: whether the gradients of parameters and measurement are
        those of the result. Default: ``None``, decided by the adjoint of a model at
        equilibrium, and ``True`` for other models.
    :param float rtol: accuracy of the result relative to its largest entry, if it is
        computed by an iteration. Default: 0.
    :return: (ContractReport) which contracts hold.
    :raises ContractError: if a contract is broken; the message names the contract.
    :raises TypeError: if an argument is of another type.
    :raises ValueError: if ``img_size`` does not hold one to four positive integers.

    |sep|

    :Example:

    >>> import deepinv as dinv, deepinv_equilibrium as deq
    >>> from deepinv_equilibrium import testing
    >>> model = deq.optim.PGD(
    ...     data_fidelity=dinv.optim.L2(), prior=dinv.optim.Tikhonov(),
    ...     lambda_reg=0.5, trainable_params=["lambda_reg"], DEQ=deq.Equilibrium(),
    ... )
    >>> print(testing.check_model(model, dinv.physics.Denoising(), (1, 4, 4)))
    PGD
    returns_images                  holds
    keeps_samples_apart             holds
    has_the_gradient_of_its_values  holds
    restores_its_state              holds
    fills_its_solution              holds
    refuses_wrong_input             holds
    """
    case = ModelCase(model, physics, img_size, exact_gradient, rtol)
    return _SUITE.check(case)
