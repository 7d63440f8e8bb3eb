r"""
Certify a network of your own
=============================

A model contracts for certain if its denoiser has a known Lipschitz constant.
This page takes a network with a layer that the package does not know, proves a
bound for this layer, tries to refute it, makes the network a denoiser that
contracts with all weights, and trains it. Replace ``MaxMin`` and
``network`` by yours.
"""

from textwrap import fill

import deepinv as dinv
import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound, register_lipschitz_rule
from deepinv_equilibrium.testing import check_denoiser

SIZE = 32  # of the photos
STEPS = 60  # of the training
CONTRACTION = 0.95  # Lipschitz constant of the denoiser
NOISE = 0.1

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"

# %%
# The bound of a network
# ----------------------
# :func:`lipschitz <deepinv_equilibrium.lipschitz>` has rules for the layers of
# torch, see its documentation, and multiplies the constants of the layers of a
# ``Sequential``. For a layer that it does not know it raises an error.


class MaxMin(nn.Module):
    """The larger and the smaller ones of two halves of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Sort the pairs of channels."""
        first, second = x.chunk(2, dim=1)
        return torch.cat((first.maximum(second), first.minimum(second)), dim=1)


def network(convolution: type[nn.Module], **options: int) -> nn.Sequential:
    """Return a network of three convolutions."""
    return nn.Sequential(
        convolution(1, 16, kernel_size=3, **options),
        MaxMin(),
        convolution(16, 16, kernel_size=3, **options),
        MaxMin(),
        convolution(16, 1, kernel_size=3, **options),
    )


plain = network(nn.Conv2d, padding=1)
try:
    deq.lipschitz(plain)
except deq.certificates.UncertifiableModuleError as error:
    print(fill(str(error), 72))

# %%
# A rule for a layer
# ------------------
# A rule is a function of the layer and of the size of its input. The package
# believes it, so prove it, and write the proof beside it.


@register_lipschitz_rule(MaxMin)
def max_min(module: nn.Module, img_size: tuple[int, ...] | None) -> Bound:
    """Return 1: to sort pairs of numbers is nonexpansive."""
    # Let u and v be pairs, and s(u) and s(v) the sorted ones. Sorting keeps the
    # norms, and <s(u), s(v)> >= <u, v> by the rearrangement inequality. Hence
    # |s(u) - s(v)|^2 = |u|^2 + |v|^2 - 2 <s(u), s(v)> <= |u - v|^2. The squared
    # distance of two images is the sum over all pairs.
    return Bound(1.0, source="sorting is nonexpansive")


print(deq.lipschitz(plain))

# %%
# :func:`stretch <deepinv_equilibrium.diagnostics.stretch>` tries to refute a
# rule: it searches for two images that the layer moves apart by a larger
# factor. The rule survives, and the search comes close to 1, so that a smaller
# constant is wrong.

features = torch.rand(1, 16, 8, 8)
for claim in (1.0, 0.9):
    found = deq.diagnostics.stretch(MaxMin(), features, claimed=claim, steps=5)
    verdict = "refuted" if found.refuted else "not refuted"
    print(f"claim {claim:.1f}: {verdict}, the largest quotient is {found.lower.value}")

# %%
# A denoiser that contracts
# -------------------------
# The bound of the network is above 1, and training would change it.
# :class:`BoundedConvolution <deepinv_equilibrium.models.BoundedConvolution>`
# divides the weights by a certified bound of the norm in every evaluation, so that
# the network :math:`N` is nonexpansive with all weights. The denoiser
#
# .. math::
#
#     \operatorname{D}(x) = \tfrac{c}{2} (x + N(x))
#
# has the constant :math:`c (1 + \|N\|) / 2 \leq c`. The code of ``forward`` is not
# analysed: the method ``lipschitz_bound`` declares the constant. The skip
# connection could also be declared by :class:`Residual
# <deepinv_equilibrium.certificates.Residual>`.


class OwnDenoiser(dinv.models.Denoiser):
    """A denoiser that contracts with all weights, for one noise level."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network(deq.models.BoundedConvolution)

    def forward(self, x: Tensor, sigma: object = None, **kwargs: object) -> Tensor:
        """Denoise a batch of images."""
        return CONTRACTION / 2 * (x + self.network(x))

    def lipschitz_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        """Return the constant, with a margin for the rounding of this line."""
        bound = deq.lipschitz(self.network, img_size)
        value = CONTRACTION / 2 * (1 + bound.value) * (1 + 1e-12)
        return Bound(value, kind=bound.kind, source="c (1 + |N|) / 2")


denoiser = OwnDenoiser()
print(deq.lipschitz(denoiser))
print(check_denoiser(denoiser, img_size=(1, 8, 8), sigma=NOISE))

# %%
# The model and its training
# --------------------------

physics = dinv.physics.BlurFFT(
    (1, SIZE, SIZE),
    filter=dinv.physics.functional.gaussian_blur(sigma=1.0),
    noise_model=dinv.physics.GaussianNoise(NOISE),
    device=device,
)
model = deq.plugins.create(
    "reconstructors", "certified-deq-pgd", denoiser=denoiser, sigma_denoiser=NOISE
).to(device)
before = deq.certify(model, physics, img_size=(1, SIZE, SIZE))
print(before)

# %%
# A training changes the weights, and the constant still holds. The certificate
# is made again, because one certificate is for one set of weights.

crops = deq.datasets.Photos("train", grey=True, img_size=SIZE, crops=4 * STEPS)
truth = deq.datasets.Photos("test", grey=True, img_size=SIZE)[0]["x"][None].to(device)
y = physics(truth)
psnr = dinv.metric.PSNR()


def report(name: str) -> None:
    """Print the PSNR and the certified rate."""
    with torch.no_grad():
        value = psnr(model(y, physics), truth).item()
    rate = deq.certify(model, physics, img_size=(1, SIZE, SIZE)).rate
    print(f"{name}: {value:.2f} dB, rate {rate.value:.4f} ({rate.kind})")


print(f"blurred: {psnr(y, truth).item():.2f} dB")
report("before")
optimizer = torch.optim.Adam(denoiser.parameters(), lr=5e-3)
for batch in torch.utils.data.DataLoader(crops, batch_size=4):
    x = batch["x"].to(device)
    optimizer.zero_grad()
    (model(physics(x), physics) - x).square().mean().backward()
    optimizer.step()
report("after ")
try:
    before.check(model, physics)
except ValueError as error:
    print(fill(f"{str(error)[:130]} ...", 72))

# %%
# The observed residuals stay below the certified envelope:

after = deq.certify(model, physics, img_size=(1, SIZE, SIZE))
model.DEQ = deq.Equilibrium(deq.Picard(max_iter=200, rtol=1e-5))
with torch.no_grad():
    model(y, physics)
figure = after.plot(model.solution)
figure.savefig("certify_own_network.png", dpi=110)
