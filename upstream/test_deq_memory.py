r"""The graph of a DEQ step stays alive after the backward pass.

The backward hook defines a class, whose method closes over the recorded step. A class
refers to itself, so the recorded graph is freed only when the cyclic garbage collector
runs: with DRUNet about 235 MiB are held for each training step.
"""

import gc
import weakref

import deepinv as dinv
import torch

OURS = "deepinv_equilibrium/fixed_points/adjoints/gate.py"


class Watched(dinv.models.Denoiser):
    """A linear denoiser with weak references to tensors that its graph saves."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))
        self.saved: list[weakref.ref] = []

    def forward(self, x: torch.Tensor, sigma: object = None, **kwargs) -> torch.Tensor:
        factor = torch.ones_like(x)
        self.saved.append(weakref.ref(factor))
        return self.weight * x * factor


def alive() -> int:
    """Return how many saved tensors are alive after a training step."""
    denoiser = Watched()
    model = dinv.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        max_iter=5,
        stepsize=1.0,
        g_param=0.1,
        trainable_params=[],
        DEQ=True,
    )
    y = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    gc.collect()
    gc.disable()
    try:
        model(y, dinv.physics.Denoising()).sum().backward()
        return sum(factor() is not None for factor in denoiser.saved)
    finally:
        gc.enable()


def test_deq_frees_the_graph_after_backward(device):
    assert alive() == 0


if __name__ == "__main__":
    print("tensors of the graph that are alive after backward:", alive())
