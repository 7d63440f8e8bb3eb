from __future__ import annotations

import deepinv as dinv
import pytest
import torch
from deepinv.models import ComplexDenoiserWrapper, EquivariantDenoiser
from deepinv.transform import Reflect, Rotate, Shift
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError

from ...one_test import in_one_test
from ..dense_operator import norm

SIZE = (1, 4, 4)


class Linear(dinv.models.Denoiser):
    """A linear map of the pixels as a denoiser."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16, bias=False).double()

    def forward(self, x: Tensor, sigma: object = None, **kwargs: object) -> Tensor:
        return self.layer(x.flatten(1)).reshape(x.shape)

    def lipschitz_bound(self, img_size: tuple[int, ...] | None) -> object:
        return deq.lipschitz(self.layer)


def compiled_eagerly(layer: nn.Module) -> nn.Module:
    return torch.compile(layer, backend="eager")


def rotations(**options: object) -> Rotate:
    return Rotate(**{"n_trans": 4, "multiples": 90, "positive": True, **options})


GROUPS = {
    "rotations": rotations,
    "half turns": lambda: rotations(n_trans=2, multiples=180),
    "flips": lambda: Reflect(n_trans=4, dim=[-2, -1]),
    "one flip": lambda: Reflect(n_trans=2, dim=[-1]),
    "both": lambda: rotations() * Reflect(n_trans=2, dim=[-1]),
    "reversed": lambda: Reflect(n_trans=2, dim=[-2]) * rotations(),
}


@pytest.mark.parametrize("name", GROUPS)
def test_lipschitz_of_an_equivariant_denoiser_bounds_its_matrix(name: str) -> None:
    denoiser = EquivariantDenoiser(Linear(), transform=GROUPS[name]())
    bound = deq.lipschitz(denoiser, SIZE)
    assert bound.is_certified
    assert bound == deq.lipschitz(denoiser.denoiser, SIZE)
    assert norm(lambda x: denoiser(x, 0.1), SIZE) <= bound.value


@in_one_test(
    ("denoiser", "match"),
    [
        (EquivariantDenoiser(Linear()), "1 of 4 elements of Rotate at random"),
        # deepinv gives Reflect an argument that it does not have.
        (EquivariantDenoiser(Linear(), random=False), "2 of 4 elements of Reflect"),
        (EquivariantDenoiser(Linear(), transform=Shift(n_trans=3)), "a Shift, is not"),
        (
            EquivariantDenoiser(Linear(), transform=rotations(n_trans=3)),
            "3 of 4 elements of Rotate at random",
        ),
        (
            EquivariantDenoiser(
                Linear(),
                transform=rotations(
                    n_trans=8, multiples=45, interpolation_mode="bilinear"
                ),
            ),
            "does not permute",
        ),
        (ComplexDenoiserWrapper(Linear(), "abs_angle"), "real_imag"),
    ],
)
def test_lipschitz_refuses_a_wrapper_without_the_bound_of_its_denoiser(
    denoiser: nn.Module, match: str
) -> None:
    with pytest.raises(UncertifiableModuleError, match=match):
        deq.lipschitz(denoiser, SIZE)


def test_lipschitz_refuses_rotations_of_images_that_are_not_square() -> None:
    denoiser = EquivariantDenoiser(
        deq.models.ConvexPotentialDenoiser(1), transform=rotations()
    )
    state = denoiser.transform.rng.get_state()
    assert deq.lipschitz(denoiser, (1, 6, 6)).is_certified
    assert torch.equal(denoiser.transform.rng.get_state(), state)
    with pytest.raises(UncertifiableModuleError, match="does not permute"):
        deq.lipschitz(denoiser, (1, 6, 8))
    with pytest.raises(UncertifiableModuleError, match="Give img_size"):
        deq.lipschitz(denoiser)


def test_lipschitz_reads_the_transform_of_the_mode() -> None:
    denoiser = EquivariantDenoiser(
        Linear(), transform=rotations(n_trans=1), eval_transform=rotations()
    )
    with pytest.raises(UncertifiableModuleError, match="at random"):
        deq.lipschitz(denoiser.train(), SIZE)
    assert deq.lipschitz(denoiser.eval(), SIZE).is_certified


@pytest.mark.parametrize("is_complex", [True, False])
def test_lipschitz_of_a_complex_wrapper_bounds_its_quotients(is_complex: bool) -> None:
    denoiser = ComplexDenoiserWrapper(Linear())
    bound = deq.lipschitz(denoiser, SIZE)
    dtype = torch.complex128 if is_complex else torch.float64
    x = torch.randn(50, *SIZE, dtype=dtype)
    with torch.no_grad():
        factors = denoiser(x, 0.1).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)
    assert 0.5 * bound.value <= factors.max() <= bound.value


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 1, 3), Linear(), nn.ReLU()])
def test_lipschitz_of_a_compiled_module_is_that_of_the_module(
    layer: nn.Module,
) -> None:
    compiled = compiled_eagerly(layer)
    assert deq.lipschitz(compiled, SIZE) == deq.lipschitz(layer, SIZE)
    network = nn.Sequential(compiled_eagerly(nn.Conv2d(1, 1, 3)), nn.Tanh())
    assert deq.lipschitz(network).is_certified


def test_lipschitz_refuses_a_compiled_module_with_another_forward() -> None:
    compiled = compiled_eagerly(nn.Conv2d(1, 1, 3))
    compiled.forward = lambda x: 2 * x
    with pytest.raises(UncertifiableModuleError, match="does not call the module"):
        deq.lipschitz(compiled)
    compiled = compiled_eagerly(nn.Conv2d(1, 1, 3))
    compiled._orig_mod = nn.Conv2d(1, 1, 3)
    with pytest.raises(UncertifiableModuleError, match="does not call the module"):
        deq.lipschitz(compiled)
    compiled = compiled_eagerly(nn.Conv2d(1, 1, 3))
    compiled.register_forward_hook(lambda module, inputs, output: 2 * output)
    with pytest.raises(UncertifiableModuleError, match="hooks"):
        deq.lipschitz(compiled)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda denoiser: compiled_eagerly(denoiser),
        ComplexDenoiserWrapper,
        lambda denoiser: EquivariantDenoiser(denoiser, transform=rotations()),
    ],
)
def test_certify_knows_a_wrapped_denoiser_as_well_as_the_denoiser(wrap: object) -> None:
    denoiser = deq.models.ConvexPotentialDenoiser(1, firmly_nonexpansive=True)
    physics = dinv.physics.Inpainting(SIZE, mask=torch.full(SIZE, 0.5))
    rates = []
    for used in (denoiser, wrap(denoiser)):
        model = deq.optim.DRS(
            data_fidelity=dinv.optim.L2(),
            prior=dinv.optim.PnP(used),
            sigma_denoiser=0.1,
            trainable_params=[],
            DEQ=deq.Equilibrium(),
        )
        rates.append(deq.certify(model, physics, SIZE).rate)
    assert rates[0].is_certified
    assert rates[0].value == rates[1].value < 1
