r"""Train reconstructions of knees from a few columns of their Fourier transform.

The images are slices of knees as magnitudes, one for each volume; each gets a smooth
random phase. Columns of the Fourier transform are measured, of which a fixed share is
at the centre and the others are random, with white Gaussian noise of standard deviation
.01 for images with a largest magnitude of 1. There are three settings: a quarter of the
columns with one coil, an eighth with one coil, and an eighth with eight coils. One
network of each kind is trained for all settings, with other columns, phases and noise
in each step:

- *denoiser*: a small DRUNet for white noise of standard deviations of .005 to .2, from
  which all but the U-Net and the ridge start;
- *PnP*: proximal gradient descent with this denoiser, whose step size and noise level
  are learned, for each setting by ReTune;
- *U-Net*: of deepinv, after the adjoint;
- *DU-PROX*: eight unrolled steps of proximal gradient descent;
- *DE-PROX*: the fixed point of these steps, with the Jacobian-free gradient;
- *DE-PROX, restarted*: these steps, restarted 4 to 12 times after each pair, with the
  gradient of the last pair (ReTune), from the weights of DU-PROX. The number changes
  from step to step, so that the quality does not depend on it;
- *DE-GRAD*: the fixed point of gradient steps, x - tau (grad f(x) + lambda (x - D(x)));
- *ridge*: the minimiser of f + kappa / 2 |x|^2 + lambda R with the convex
  :class:`deepinv_equilibrium.models.RidgeRegulariser`, which is proved to be unique and
  to be reached at a rate, with the implicit gradient. It starts from the bundled grey
  weights, one copy for the real and one for the imaginary part.

Every fifth file of the folder is for the test, and every tenth for validation. The
training uses windows of 160 x 160 pixels, mirrored at random. A checkpoint is written
every 50 steps, and the same command goes on from it::

    python gallery/training/knees.py KNEES --weights gallery/training/weights

The folder was the 75 slices of knees that the authors of the convex ridge regulariser
took from the volumes of fastMRI, whose use is restricted to research and education.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import deepinv as dinv
import torch
import training_loop
from deepinv.physics import GaussianNoise, Physics
from deepinv.physics.generator import RandomMaskGenerator
from image_folder import split_in_three
from small_drunet import expansion
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import RidgeRegulariser, SmallDRUNet
from deepinv_equilibrium.physics import birdcage_coil_maps

NOISE_LEVEL = 0.01
# Coils, acceleration and share of the columns that is at the centre.
SETTINGS = {
    "1 coil, 4x": (1, 4, 0.08),
    "1 coil, 8x": (1, 8, 0.04),
    "8 coils, 8x": (8, 8, 0.04),
}
LAYERS = 8
KAPPA = 1e-3
WINDOW = 160
# Steps, batch size and learning rate of the weights.
TRAININGS = {
    "denoiser": (6000, 8, 1e-3),
    "PnP": (30, 2, 0.0),
    "U-Net": (8000, 2, 1e-3),
    "DU-PROX": (1000, 2, 3e-4),
    "DE-PROX": (1000, 2, 3e-4),
    "DE-PROX, restarted": (500, 2, 2e-4),
    "DE-GRAD": (1000, 2, 3e-4),
    "ridge": (120, 2, 1e-3),
}


def split(folder: Path) -> dict[str, list[Tensor]]:
    """Return the magnitudes for training, validation and test, of shape (1, H, W)."""
    return {
        part: [image / image.max() for image in images]
        for part, images in split_in_three(folder, 1).items()
    }


def with_phase(magnitude: Tensor, generator: torch.Generator) -> Tensor:
    """Return the real and imaginary part of an image with a smooth random phase."""
    height, width = magnitude.shape[-2:]
    a, b, c, d = torch.randn(4, generator=generator).tolist()
    row, column = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    phase = 3 * a + b * row + c * column + d * column**2 / 2
    return torch.cat([magnitude * phase.cos(), magnitude * phase.sin()])


def windows(
    images: list[Tensor], count: int, size: int, generator: torch.Generator
) -> Tensor:
    """Return random windows with random phases, of shape (count, 2, size, size)."""
    cuts = []
    for pick in torch.randint(len(images), (count,), generator=generator).tolist():
        image = images[pick]
        top, left = (
            int(torch.randint(side - size + 1, (), generator=generator))
            for side in image.shape[-2:]
        )
        cut = image[:, top : top + size, left : left + size]
        if torch.rand((), generator=generator) < 0.5:
            cut = cut.flip(-1)
        cuts.append(with_phase(cut, generator))
    return torch.stack(cuts)


def scan(setting: str, size: tuple[int, int], seed: int) -> Physics:
    """Return the physics of a setting, whose columns and noise follow a seed."""
    coils, acceleration, centre = SETTINGS[setting]
    generator = torch.Generator().manual_seed(seed)
    masks = RandomMaskGenerator(size, acceleration, centre, rng=generator)
    mask = masks.step(1)["mask"]
    noise = GaussianNoise(NOISE_LEVEL, rng=torch.Generator().manual_seed(seed))
    if coils == 1:
        return dinv.physics.MRI(mask=mask, img_size=size, noise_model=noise)
    maps = birdcage_coil_maps(coils, size)[None]
    return dinv.physics.MultiCoilMRI(
        mask=mask, coil_maps=maps, img_size=size, noise_model=noise
    )


def in_pairs(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a regulariser of pairs that is the sum over both parts."""
    doubled = {}
    for name, value in weights.items():
        if name.startswith("filters."):
            rows, columns = value.shape[:2]
            block = value.new_zeros(2 * rows, 2 * columns, *value.shape[2:])
            block[:rows, :columns] = block[rows:, columns:] = value
            doubled[name] = block
        else:
            doubled[name] = value.repeat(2, 1) if name.startswith("scaling.") else value
    return doubled


def build(kind: str, configuration: Any = None) -> Any:
    """Return a model before its training."""
    if kind == "denoiser":
        return SmallDRUNet(2, pretrained=None)
    if kind == "U-Net":
        net = dinv.models.UNet(
            2, 2, batch_norm=False, channels_per_scale=[16, 32, 64, 128]
        )
        return dinv.models.ArtifactRemoval(net, mode="adjoint")
    if kind == "ridge":
        bundled = RidgeRegulariser(1)
        count = 2 * len(bundled.scaling.exponents)
        prior = RidgeRegulariser(2, None, hidden_channels=(8, 16), generators=count)
        prior.load_state_dict(in_pairs(bundled.state_dict()))
        return deq.optim.GD(
            data_fidelity=deq.optim.RidgeL2(kappa=KAPPA),
            prior=prior,
            stepsize="auto",
            lambda_reg=0.12,
            sigma_denoiser=0.05,
            trainable_params=["lambda", "sigma_denoiser"],
            DEQ=configuration
            or deq.Equilibrium(
                # At 1e-4 the iterates are 1.5 dB from the fixed point, because the
                # steps are small where nothing is measured.
                deq.Anderson(rtol=1e-5, max_iter=150),
                deq.Implicit(deq.GMRES(rtol=3e-2, max_iter=60)),
                on_failure="ignore",
            ),
        )
    anderson = deq.Anderson(rtol=1e-3, max_iter=30)
    jacobian_free = deq.Equilibrium(anderson, deq.JacobianFree(), on_failure="ignore")
    denoiser = SmallDRUNet(2, pretrained=None)
    if kind == "DE-GRAD":
        return deq.optim.GD(
            data_fidelity=dinv.optim.L2(),
            prior=deq.optim.RED(denoiser),
            stepsize=0.5,
            lambda_reg=0.3,
            sigma_denoiser=0.02,
            trainable_params=["lambda", "sigma_denoiser"],
            DEQ=configuration or jacobian_free,
        )
    layers = deq.Picard(max_iter=LAYERS, rtol=0.0)
    trained = {
        "PnP": deq.ReTune(5, 8),
        "DU-PROX": deq.Equilibrium(layers, deq.Unrolled(), on_failure="ignore"),
        "DE-PROX": jacobian_free,
        "DE-PROX, restarted": deq.ReTune(2, 12),
    }
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=1.0,
        sigma_denoiser=0.02,
        trainable_params=["stepsize", "sigma_denoiser"],
        DEQ=configuration or trained[kind],
    )


def denoising_loss(
    denoiser: SmallDRUNet, x: Tensor, generator: torch.Generator
) -> Tensor:
    """Return the loss of a denoiser, with the penalty of ``small_drunet.py``, which
    makes iterations converge, in every fourth step."""
    uniform = torch.rand(len(x), generator=generator)
    sigma = 0.005 * 40**uniform
    y = x + sigma[:, None, None, None] * torch.randn(x.shape, generator=generator)
    loss = (denoiser(y, sigma) - x).abs().mean()
    if float(torch.rand((), generator=generator)) < 0.25:
        x, y, sigma = x[:4, :, :48, :48], y[:4, :, :48, :48], sigma[:4]
        between = x + torch.rand(4, 1, 1, 1, generator=generator) * (y - x)
        excess = expansion(denoiser, between, sigma, generator) - 0.9
        loss = loss + 0.5 * excess.relu().square().mean()
    return loss


def reconstruction_loss(model: Any, x: Tensor, setting: str, seed: int) -> Tensor:
    """Return the mean of the root mean square errors."""
    physics = scan(setting, (x.shape[-2], x.shape[-1]), seed)
    error = model(physics(x), physics) - x
    return error.square().flatten(1).mean(1).sqrt().mean()


def train(
    kind: str, model: Any, images: list[Tensor], settings: list[str], output: Path
) -> None:
    """Train a model in place, or go on from a checkpoint, and write its weights."""
    steps, batch_size, rate = TRAININGS[kind]

    def loss(step: int, generator: torch.Generator) -> Tensor:
        size = 64 if kind == "denoiser" else WINDOW
        x = windows(images, batch_size, size, generator)
        if kind == "DE-PROX, restarted":
            restarts = int(torch.randint(4, 13, (), generator=generator))
            model.DEQ = deq.ReTune(2, restarts, on_failure="ignore")
        if kind == "denoiser":
            return denoising_loss(model, x, generator)
        return reconstruction_loss(model, x, settings[step % len(settings)], step)

    training_loop.train(model, loss, steps, rate, output.with_suffix(".checkpoint"))
    torch.save(training_loop.half_precision(model.state_dict()), output)


def main() -> None:
    """Train the models that have no weights yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of slices")
    parser.add_argument("--weights", type=Path, required=True, help="a folder")
    parser.add_argument(
        "--kinds", nargs="+", default=list(TRAININGS), choices=TRAININGS
    )
    args = parser.parse_args()

    args.weights.mkdir(exist_ok=True)
    images = split(args.folder)["training"]
    for kind in args.kinds:
        torch.manual_seed(0)
        for setting in SETTINGS if kind == "PnP" else ["all"]:
            name = kind if setting == "all" else f"{kind}_{setting}"
            output = args.weights / f"knees_{name}.pt".replace(", ", "_").replace(
                " ", "_"
            )
            if output.exists():
                continue
            model = build(kind)
            if kind == "DE-PROX, restarted":
                unrolled = torch.load(
                    args.weights / "knees_DU-PROX.pt", weights_only=True
                )
                model.load_state_dict(unrolled)
            elif kind not in ("denoiser", "U-Net", "ridge"):
                weights = torch.load(
                    args.weights / "knees_denoiser.pt", weights_only=True
                )
                model.prior[0].denoiser.load_state_dict(weights)
            train(
                kind,
                model,
                images,
                list(SETTINGS) if setting == "all" else [setting],
                output,
            )


if __name__ == "__main__":
    main()
