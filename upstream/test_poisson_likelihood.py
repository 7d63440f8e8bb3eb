r"""The Poisson likelihood has a gradient that is off by gain^2, and mixes samples.

``PoissonLikelihood(gain).fn`` is, with beta = bkg,

    sum_i -y_i log(x_i / gain + beta) + x_i / gain + beta - y_i,

whose gradient is (1 - y / (x / gain + beta)) / gain. ``grad`` multiplies by ``gain``
where it should divide. ``fn`` adds the logarithms of all samples of the batch to the
value of each sample. Gradient descent with a gain of .02 makes steps that are 2,500
times too small.
"""

import deepinv as dinv
import torch

OURS = "deepinv_equilibrium/optim/data_fidelities/kullback_leibler_distance.py"


def case() -> tuple[dinv.optim.PoissonLikelihood, torch.Tensor, torch.Tensor]:
    """Return a likelihood, positive images and their measurements."""
    generator = torch.Generator().manual_seed(0)
    x = 0.5 + torch.rand(2, 1, 4, 4, dtype=torch.float64, generator=generator)
    y = 0.5 + torch.rand(2, 1, 4, 4, dtype=torch.float64, generator=generator)
    return dinv.optim.PoissonLikelihood(gain=0.5, bkg=0.1), x, y


def test_poisson_gradient_is_that_of_the_function(device):
    likelihood, x, y = case()
    x = x.to(device).requires_grad_()
    physics = dinv.physics.Denoising()
    # Samples are summed so that this test does not depend on the second defect.
    values = [likelihood(x[i : i + 1], y[i : i + 1], physics).sum() for i in range(2)]
    (expected,) = torch.autograd.grad(sum(values), x)
    torch.testing.assert_close(likelihood.grad(x.detach(), y, physics), expected)


def test_poisson_value_of_a_sample_does_not_depend_on_its_batch(device):
    likelihood, x, y = case()
    physics = dinv.physics.Denoising()
    alone = [likelihood(x[i : i + 1], y[i : i + 1], physics) for i in range(2)]
    torch.testing.assert_close(likelihood(x, y, physics), torch.cat(alone))


if __name__ == "__main__":
    likelihood, x, y = case()
    physics = dinv.physics.Denoising()
    gradient = likelihood.grad(x, y, physics)
    x.requires_grad_()
    (expected,) = torch.autograd.grad(likelihood(x[:1], y[:1], physics).sum(), x)
    print(
        "grad / expected:", (gradient[0] / expected[0]).mean().item(), "(should be 1)"
    )
    print("values together:", likelihood(x, y, physics).tolist())
    print(
        "values alone:",
        [likelihood(x[i : i + 1], y[i : i + 1], physics).item() for i in range(2)],
    )
