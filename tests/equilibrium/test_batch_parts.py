"""Models restrict their steps to the samples that still run."""

from __future__ import annotations

from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq

IMAGE = (2, 6, 8)
BATCH = 8


class Scaling(dinv.models.Denoiser):
    """The denoiser D(x) = a tanh(x) with a trained a, which counts images."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(0.9))
        self.images = 0

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        self.images += len(x)
        return self.a * torch.tanh(x) * (1 - sigma)


def masks(batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(batch, *IMAGE, generator=generator) > 0.4).float()


def filters(batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    kernels = torch.rand(batch, 1, 3, 3, generator=generator)
    return kernels / kernels.sum((-2, -1), keepdim=True)


PHYSICS = {
    "a mask for all": lambda: dinv.physics.Inpainting(IMAGE, mask=masks(1)),
    "a mask for each": lambda: dinv.physics.Inpainting(IMAGE, mask=masks(BATCH)),
    "a blur for all": lambda: dinv.physics.BlurFFT(IMAGE, filter=filters(1)),
    "a blur for each": lambda: dinv.physics.BlurFFT(IMAGE, filter=filters(BATCH)),
    "iterative prox": lambda: dinv.physics.Blur(
        filter=filters(BATCH), padding="circular"
    ),
    "stacked": lambda: dinv.physics.StackedLinearPhysics(
        [
            dinv.physics.Inpainting(IMAGE, mask=masks(BATCH)),
            dinv.physics.BlurFFT(IMAGE, filter=filters(1)),
        ]
    ),
    "MRI": lambda: dinv.physics.MRI(
        mask=masks(BATCH)[:, :1].repeat(1, 2, 1, 1), img_size=IMAGE[1:]
    ),
}
MODELS = ("PGD", "HQS", "DRS", "ADMM", "GD")


def model_of(kind: str, sigma: Any = 0.1) -> Any:
    prior = dinv.optim.PnP(Scaling())
    if kind == "GD":
        prior = deq.optim.RED(Scaling())
    return getattr(deq.optim, kind)(
        data_fidelity=dinv.optim.L2(),
        prior=prior,
        stepsize=0.5,
        lambda_reg=0.2,
        sigma_denoiser=sigma,
        trainable_params=[],
        DEQ=deq.Equilibrium(
            deq.Picard(rtol=1e-5, max_iter=500), deq.Implicit(deq.GMRES(rtol=1e-6))
        ),
    )


def start(model: Any, y: Any, physics: Any) -> Tensor:
    """The solution, but far from it for one sample."""
    with torch.no_grad():
        x = model(y, physics).detach().clone()
    x[5] += 1.0
    return x


def compare(model: Any, y: Any, physics: Any) -> tuple[int, int]:
    """Check that restricted steps change no result, and return how many images were
    denoised without them and with them."""
    init = start(model, y, physics)
    denoiser = model.prior[0].denoiser
    results = []
    for restricts in (False, True):
        if not restricts:
            model.step_of_samples = lambda *_: None
        else:
            del model.step_of_samples
        denoiser.images = 0
        x = model(y, physics, init=init)
        (gradient,) = torch.autograd.grad(x.square().sum(), denoiser.a)
        results.append((x.detach(), gradient, denoiser.images, model.solution))
    (x, gradient, whole, report), (found, other, part, restricted) = results
    torch.testing.assert_close(found, x, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(other, gradient, rtol=1e-4, atol=1e-6)
    assert restricted.status == report.status
    assert (restricted.iterations - report.iterations).abs().max() <= 1
    return whole, part


@pytest.mark.parametrize("name", PHYSICS)
def test_converged_samples_leave_the_batch(name: str) -> None:
    physics = PHYSICS[name]()
    y = physics.A(torch.rand(BATCH, *IMAGE))
    whole, part = compare(model_of("PGD"), y, physics)
    assert part < 0.5 * whole


@pytest.mark.parametrize("kind", MODELS)
def test_converged_samples_leave_the_batch_of_each_algorithm(kind: str) -> None:
    physics = PHYSICS["a mask for each"]()
    y = physics.A(torch.rand(BATCH, *IMAGE))
    whole, part = compare(model_of(kind), y, physics)
    assert part < 0.6 * whole


def test_a_noise_level_for_each_sample_keeps_the_batch_together() -> None:
    # The parameters of an optimiser are for the whole batch.
    sigma = torch.linspace(0, 0.3, BATCH).reshape(-1, 1, 1, 1)
    physics = PHYSICS["a mask for each"]()
    y = physics.A(torch.rand(BATCH, *IMAGE))
    whole, part = compare(model_of("PGD", sigma), y, physics)
    assert part >= whole


def test_metrics_are_those_of_all_samples_in_each_iteration() -> None:
    physics = PHYSICS["a mask for each"]()
    x_gt = torch.rand(BATCH, *IMAGE)
    y = physics.A(x_gt)
    model = model_of("PGD")
    init = start(model, y, physics)
    _, metrics = model(y, physics, init=init, x_gt=x_gt, compute_metrics=True)
    lengths = {len(of_sample) for of_sample in metrics["psnr"]}
    assert lengths == {int(model.solution.iterations.max()) + 1}


def test_a_physics_that_is_updated_before_the_backward_changes_nothing() -> None:
    physics = PHYSICS["a mask for each"]()
    y = physics.A(torch.rand(BATCH, *IMAGE))
    model = model_of("PGD")
    init = start(model, y, physics)
    denoiser = model.prior[0].denoiser
    gradients = []
    for updates in (False, True):
        physics.update(mask=masks(BATCH))
        x = model(y, physics, init=init)
        if updates:
            physics.update(mask=masks(BATCH).flip(0))
        gradients.append(torch.autograd.grad(x.square().sum(), denoiser.a)[0])
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("batch", [1, BATCH])
def test_a_common_step_size_keeps_samples_with_operators_of_their_own(
    batch: int,
) -> None:
    model = deq.models.WaveletReconstructor(deq.optim.WeightedWaveletPrior(channels=2))
    physics = dinv.physics.BlurFFT((2, 16, 16), filter=filters(batch))
    y = physics.A(torch.rand(BATCH, 2, 16, 16))
    step, _ = model.fixed_point_problem(y, physics)
    part = model.step_of_samples(step, y, physics, torch.tensor([1, 2]))
    assert (part is None) == (batch > 1)
