r"""
Refuting a contraction
======================

A denoiser :math:`\operatorname{D}` is a contraction if
:math:`\|\operatorname{D}(x_1) - \operatorname{D}(x_2)\| \leq L \|x_1 - x_2\|`
with :math:`L < 1` for *all* images. Convergence of plug-and-play and of
equilibrium models rests on such constants, and constructions are sometimes
called contractive that are not. Two images suffice to refute the claim:
their quotient is a lower bound of :math:`L`.
:func:`deepinv_equilibrium.diagnostics.stretch` searches for them and rounds
the quotient down.

This page builds two such constructions, trains them as denoisers, and finds
the images that refute them. The denoisers of this package survive the same
search, and the quotients that it finds show how tight their certified
bounds are.

Nothing is downloaded. From a clone of the repository,
``python gallery/ideas/refuting_contraction.py`` runs this page in less than a
minute on one core.
"""

from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import DataLoader
from tqdm import tqdm

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound
from deepinv_equilibrium.diagnostics import Stretch, stretch

STEPS = 100  # of the optimiser
PIXELS = 16  # side of the photo at which the search starts
SEARCH = 5  # steps of each move of the search
RIDGE_PIXELS = 8  # side of the photo for denoisers that iterate
RIDGE = {"ridge prox": 0.0, "ridge prox, weakly": 1.0}  # bounds of rho
NOISE_LEVEL = 0.1
SEED = 0  # of weights, crops and noise

torch.manual_seed(SEED)
device = "cuda" if torch.cuda.is_available() else "cpu"
photo = deq.datasets.Photos("test", grey=True, img_size=PIXELS)[0]["x"][None]
photo = photo.to(device)

# %%
# The input is injected at every layer
# ------------------------------------
# Networks of the form
#
# .. math::
#
#     x_1 = \phi(U_0 y), \qquad x_{k+1} = \phi(W_k x_k + U_k y), \qquad
#     \operatorname{D}(y) = W_K x_K,
#
# read the measurement :math:`y` again in every layer. If each :math:`W_k` is
# scaled to a norm below 1, every layer contracts *in* :math:`x_k`. The claim
# is that the network contracts in its input by the product of these norms.
# It ignores the path through :math:`U_k`. With both paths,
#
# .. math::
#
#     L_1 = \|U_0\|, \qquad L_{k+1} = \|W_k\| L_k + \|U_k\|,
#
# the constant is bounded by :math:`\|W_K\| L_K` only. Here all norms are
# certified bounds of convolutions, and the :math:`W_k` and :math:`U_k` are
# scaled by them.

SCALE = 0.99  # of each W_k


class Reinjected(nn.Module):
    """A network that reads its input in every layer."""

    def __init__(self, layers: int = 5, filters: int = 12) -> None:
        super().__init__()
        outputs = [filters] * (layers - 1) + [1]
        convolution = deq.models.BoundedConvolution
        self.W = nn.ModuleList(convolution(filters, n) for n in outputs)
        self.U = nn.ModuleList(convolution(1, filters) for _ in outputs)

    def forward(self, y: Tensor) -> Tensor:
        """Denoise a batch of images."""
        x = torch.relu(self.U[0](y))
        for W, U in zip(self.W[:-1], self.U[1:], strict=True):
            x = torch.relu(SCALE * W(x) + U(y))
        return SCALE * self.W[-1](x)

    def claimed(self) -> float:
        """Return the product of the norms of all W_k."""
        return float(torch.tensor([SCALE * W.norm() for W in self.W]).prod())

    def lipschitz_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        """Return the bound with both paths."""
        value = self.U[0].norm()
        for W, U in zip(self.W[:-1], self.U[1:], strict=True):
            value = SCALE * W.norm() * value + U.norm()
        return Bound(1.001 * SCALE * self.W[-1].norm() * value, source="both paths")


# %%
# The norm of a kernel that is reshaped to a matrix
# -------------------------------------------------
# ``torch.nn.utils.parametrizations.spectral_norm`` divides the kernel of a
# convolution by the norm of a matrix: the kernel, reshaped to one row for
# each output channel. A power iteration estimates this norm. The convolution
# is another operator, whose norm is larger by a factor of up to the number of
# taps of the kernel along an axis. The claim is that each layer, and hence
# the network, is nonexpansive.


def normalised(layers: int = 5, filters: int = 12) -> nn.Sequential:
    """Return a network of layers with torch's spectral normalisation."""
    widths = [1] + [filters] * (layers - 1) + [1]
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        modules += [spectral_norm(convolution), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


# %%
# Training
# --------
# Both networks learn to denoise crops of photos. The constraints hold in
# every step of the training.

LEARNING_RATES = {"re-injection": 1e-2, "reshaped kernels": 3e-3}
networks: dict[str, nn.Module] = {
    "re-injection": Reinjected(),
    "reshaped kernels": normalised(),
}
for name, network in networks.items():
    network.to(device).train()
    crops = deq.datasets.Photos(
        "train", grey=True, img_size=32, crops=4 * STEPS, seed=SEED
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATES[name])
    for sample in tqdm(DataLoader(crops, batch_size=4), desc=name):
        x = sample["x"].to(device)
        noisy = x + NOISE_LEVEL * torch.randn_like(x)
        optimizer.zero_grad()
        (network(noisy) - x).square().mean().backward()
        optimizer.step()
    network.eval()

# %%
# The search
# ----------
# The claim for the first network is the product of the norms of its
# :math:`W_k`, and the claim for the second one is 1. The search converts a
# copy of each network to float64, and alternates conjugate gradients for the
# steepest direction of the Jacobian, gradient ascent over both images, and
# bisection of the segment between them.

reinjected = networks["re-injection"]
assert isinstance(reinjected, Reinjected)
claims = {"re-injection": reinjected.claimed(), "reshaped kernels": 1.0}
found: dict[str, Stretch] = {}
for name, network in networks.items():
    found[name] = stretch(network, photo, claimed=claims[name], starts=1, steps=SEARCH)
    print(f"\n{name}\n{found[name]}")

# %%
# Both claims are refuted, and both networks expand some differences, by more
# than 1. The lower bound is not an estimate: whoever evaluates the network at
# the two images in float64 finds the quotient again. The rounding errors are
# subtracted already. No theorem about contractions applies to these networks,
# although their iterates may converge for many images.
#
# The upper bounds are certified, too. The one with both paths is honest but
# far from 1, because a scaling of :math:`W_k` does not limit it.
#
# The picture shows the pair for each network. The images differ by so little
# that the difference cannot be seen. It is shown on its own scale, and the
# difference of the outputs on the same scale.

figure, panels = plt.subplots(2, 4, figsize=(9.6, 5.2), layout="constrained")
for row, (name, result) in zip(panels, found.items(), strict=True):
    first, second = result.pair
    change = result.values[0] - result.values[1]
    limit = float(change.abs().max())
    colours = {"cmap": "RdBu", "vmin": -limit, "vmax": limit}
    grey = {"cmap": "gray", "vmin": 0.0, "vmax": 1.0}
    titles = {
        f"{name}, $x_1$": (first, grey),
        "$x_2$": (second, grey),
        f"$x_1 - x_2$, norm {float((first - second).norm()):.2e}": (
            first - second,
            colours,
        ),
        f"$D(x_1) - D(x_2)$, {float(result.quotient):.3f} times": (change, colours),
    }
    for axes, (title, (image, options)) in zip(row, titles.items(), strict=True):
        axes.imshow(image[0, 0].cpu().numpy(), **options)
        axes.set_title(title, fontsize=9)
        axes.axis("off")
figure.savefig("refuting_contraction.png", dpi=110)

# %%
# Denoisers with certified constants
# ----------------------------------
# The same search is run on the denoisers of this package, and the claim is the
# certified bound. The weights of the BoundedDnCNN are random, because none are
# bundled. The small DRUNet has no certified bound.

models = deq.models
denoisers = {
    "BoundedDnCNN, random": models.BoundedDnCNN(1, depth=5, filters=12),
    "small DRUNet": models.SmallDRUNet(1),
}
for colours, channels in (("grey", 1), ("colour", 3)):
    potential = models.ConvexPotentialDenoiser(channels)
    contracting = models.ConvexPotentialDenoiser(channels, contraction=0.99)
    firm = models.ConvexPotentialDenoiser(channels, firmly_nonexpansive=True)
    denoisers[f"potential, {colours}"] = potential
    denoisers[f"potential, 0.99, {colours}"] = contracting
    denoisers[f"potential, firm, {colours}"] = firm
    for name, rho in RIDGE.items():
        ridge = models.RidgeProxDenoiser(channels, weak_convexity=rho)
        denoisers[f"{name}, {colours}"] = ridge
table: dict[str, Stretch] = {}
for name, denoiser in tqdm(denoisers.items(), desc="search"):
    side = RIDGE_PIXELS if name.startswith("ridge") else PIXELS
    grey = not name.endswith("colour")
    image = deq.datasets.Photos("test", grey=grey, img_size=side)[0]["x"][None]
    bound = None
    if name != "small DRUNet":
        bound = deq.lipschitz(denoiser, tuple(image.shape[1:]))
    table[name] = stretch(
        denoiser.to(device),
        image.to(device),
        NOISE_LEVEL,
        claimed=bound,
        starts=1,
        steps=SEARCH,
    )

print("denoiser                    certified   found    ratio   claim")
for name, result in table.items():
    upper = ratio = verdict = "none"
    if result.claimed is not None:
        upper, ratio = result.upper.rounded(6), f"{result.ratio:.4f}"
        verdict = "refuted" if result.refuted else "survives"
    print(f"{name:26s} {upper:>9s}   {result.lower.rounded(6):8s} {ratio:7s} {verdict}")

# %%
# No certified bound is refuted. A ratio close to 1 says that the bound is
# attained up to the accuracy of the search, so that no proof can improve it.
# The bound of the BoundedDnCNN is one plus a product of norms, which is not
# attained. The proximal operator of a rho-weakly convex regulariser may expand
# by 1 / (1 - rho), and rho is close to 1; the search at this photo finds 2 at
# most. For the DRUNet, the lower bound is above 1 and refutes that it is
# nonexpansive; nothing else is proved about its constant.
