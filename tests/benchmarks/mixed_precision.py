"""Gradients and training under autocast, beside single precision and deepinv 0.5::

    OMP_NUM_THREADS=1 python -m tests.benchmarks.mixed_precision

Run from the root of the repository; the run takes about eight minutes. It prints the
relative errors of the gradient in the weights, and the PSNR on test photos after a
training in each precision.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import deepinv as dinv
import torch
from deepinv.optim import DEQConfig
from torch import Tensor
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq
from deepinv_equilibrium.datasets import Photos

SIZE, BATCH, CROPS, EPOCHS, LEARNING_RATE = 24, 8, 48, 10, 1e-2
BLUR, NOISE, DENOISER_NOISE = 1.0, 0.05, 0.1
PRECISIONS: dict[str, torch.dtype | None] = {
    "float32": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
CONFIGURATIONS: dict[str, Callable[[], deq.Equilibrium]] = {
    "ReTune": lambda: deq.ReTune(layers=3, restarts=5),
    "Jacobian-free": lambda: deq.Equilibrium(deq.Anderson(), deq.JacobianFree()),
    "implicit": lambda: deq.Equilibrium(deq.Anderson(), deq.Implicit()),
}
DEEPINV = {
    "deepinv, Jacobian-free": DEQConfig(jacobian_free=True),
    "deepinv, implicit": DEQConfig(),
}


def autocast(dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Return the context of a precision."""
    return nullcontext() if dtype is None else torch.autocast("cpu", dtype)


def make_physics() -> dinv.physics.LinearPhysics:
    """Return a circular blur with noise."""
    kernel = dinv.physics.functional.gaussian_blur(sigma=BLUR)
    noise = dinv.physics.GaussianNoise(NOISE, rng=torch.Generator().manual_seed(0))
    return dinv.physics.BlurFFT((1, SIZE, SIZE), filter=kernel, noise_model=noise)


def make_pairs(split: str, crops: int) -> list[dict[str, Tensor]]:
    """Return crops of photos and their measurements."""
    photos = Photos(split, grey=True, img_size=SIZE, crops=crops)
    x = torch.stack([photos[i]["x"] for i in range(crops)])
    y = make_physics()(x)
    return [{"x": image, "y": data} for image, data in zip(x, y, strict=True)]


def make_model(config: deq.Equilibrium | DEQConfig) -> dinv.optim.PGD:
    """Return proximal gradient descent with an untrained denoiser that contracts with
    any weights, as our class for our configurations and as deepinv's for its own. CPUs
    emulate half precision, in which larger networks are twenty times as slow as in
    float32."""
    torch.manual_seed(0)
    network = deq.models.BoundedDnCNN(
        1, epsilon=0.9, residual=False, depth=4, filters=8
    )
    ours = isinstance(config, deq.Equilibrium)
    options = {} if ours else {"max_iter": 100, "early_stop": True, "thres_conv": 1e-4}
    return (deq.optim.PGD if ours else dinv.optim.PGD)(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(network),
        stepsize=1.0,
        sigma_denoiser=DENOISER_NOISE,
        trainable_params=["stepsize"],
        DEQ=config,
        **options,
    )


def gradient(
    config: deq.Equilibrium | DEQConfig,
    pairs: list[dict[str, Tensor]],
    dtype: torch.dtype | None,
    double: bool = False,
) -> Tensor:
    """Return the gradient of the squared error in the weights of the denoiser."""
    real = torch.float64 if double else torch.float32
    model, physics = make_model(config).to(real), make_physics()
    physics = physics.double() if double else physics  # .to would drop imaginary parts
    x = torch.stack([pair["x"] for pair in pairs]).to(real)
    y = torch.stack([pair["y"] for pair in pairs]).to(real)
    with autocast(dtype):
        loss = (model(y, physics) - x).square().mean()
    weights = list(model.prior[0].denoiser.parameters())
    gradients = torch.autograd.grad(loss, weights)
    return torch.cat([g.flatten() for g in gradients]).double()


def gradient_errors(pairs: list[dict[str, Tensor]]) -> dict[str, dict[str, float]]:
    r"""
    Return the relative errors of the gradients in each precision.

    The errors of Jacobian-free gradients and of ReTune refer to the same method in
    float64, and those of the implicit gradients to the implicit gradient in float64.

    :param list pairs: images and measurements.
    :return: (dict) for each method a dictionary of the error in each precision.
    """
    solver = deq.Anderson(rtol=1e-9, max_iter=300)
    exact = {
        "ReTune": CONFIGURATIONS["ReTune"](),
        "Jacobian-free": deq.Equilibrium(solver, deq.JacobianFree()),
        "implicit": deq.Equilibrium(solver, deq.Implicit(deq.GMRES(rtol=1e-9))),
    }
    right = {
        name: gradient(config, pairs, None, double=True)
        for name, config in exact.items()
    }
    methods: dict[str, deq.Equilibrium | DEQConfig] = {
        **{name: make() for name, make in CONFIGURATIONS.items()},
        **DEEPINV,
    }
    errors: dict[str, dict[str, float]] = {}
    for name, config in methods.items():
        truth = right[name.rpartition(", ")[2]]
        errors[name] = {}
        for precision, dtype in PRECISIONS.items():
            found = gradient(copy.deepcopy(config), pairs, dtype)
            errors[name][precision] = float((found - truth).norm() / truth.norm())
    return errors


def trained_psnr(name: str, precision: str, train: list, test: list) -> float:
    """Return the PSNR on test photos, in float32, after a training in a precision."""
    torch.manual_seed(0)
    model, physics = make_model(CONFIGURATIONS[name]()), make_physics()
    trainer = dinv.Trainer(
        model=model,
        physics=physics,
        optimizer=torch.optim.Adam(model.parameters(), lr=LEARNING_RATE),
        train_dataloader=DataLoader(train, batch_size=BATCH),
        epochs=EPOCHS,
        losses=dinv.loss.SupLoss(),
        mixed_precision=False if precision == "float32" else precision,
        device="cpu",
        save_path=None,
        show_progress_bar=False,
        verbose=False,
    )
    trainer.train()
    return float(trainer.test(DataLoader(test, batch_size=BATCH))["PSNR"])


def main() -> None:
    """Print the gradient errors and the PSNR after training."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Trainer running with AMP")
    warnings.filterwarnings("ignore", ".*below the noise")
    warnings.filterwarnings("ignore", "No explicit prior has been given")
    train, test = make_pairs("train", CROPS), make_pairs("test", 16)
    heads = "".join(f"{precision:>12s}" for precision in PRECISIONS)
    print(f"{'relative error of the gradient':34s}{heads}")
    for name, row in gradient_errors(test[:BATCH]).items():
        print(f"{name:34s}" + "".join(f"{error:12.1e}" for error in row.values()))
    print(f"{'PSNR after training, in dB':34s}{heads}")
    for name in CONFIGURATIONS:
        values = [trained_psnr(name, p, train, test) for p in PRECISIONS]
        print(f"{name:34s}" + "".join(f"{value:12.2f}" for value in values), flush=True)


if __name__ == "__main__":
    main()
