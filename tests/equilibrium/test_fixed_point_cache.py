"""Warm starts save evaluations, and are not used where they are stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import deepinv_equilibrium as deq
from deepinv_equilibrium.datasets import IndexedDataset
from deepinv_equilibrium.equilibrium import FixedPointCache

IMAGE = (1, 6, 8)


class Smooth(dinv.models.Denoiser):
    """A contraction with trained weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = torch.nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return 0.7 * x + 0.2 * torch.tanh(self.network(x))


def build(**kwargs: Any) -> Any:
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(Smooth()),
        stepsize=0.5,
        sigma_denoiser=0.1,
        DEQ=deq.Equilibrium(deq.Picard(rtol=1e-6, max_iter=200)),
    )
    model.warm_starts = FixedPointCache(**kwargs)
    return model


def physics_of(*numbers: int) -> Any:
    physics = dinv.physics.Inpainting(IMAGE, mask=torch.full(IMAGE, 0.9))
    FixedPointCache.follow(physics)
    if numbers:
        physics.update(sample_index=torch.tensor(numbers))
    return physics


def evaluations(model: Any, y: Tensor, physics: Any) -> list[int]:
    model(y, physics)
    return model.solution.evaluations.tolist()


def test_a_second_call_starts_at_the_fixed_point() -> None:
    model, y = build(), torch.rand(3, *IMAGE)
    physics = physics_of(4, 7, 2)
    cold = model(y, physics).detach()
    first = model.solution.evaluations
    warm = model(y, physics).detach()
    assert (model.solution.evaluations <= 0.2 * first).all()
    torch.testing.assert_close(warm, cold, rtol=1e-4, atol=1e-5)
    # In another order and beside a new sample.
    some = evaluations(model, torch.cat([y[1:2], y[:1] + 0.5]), physics_of(7, 9))
    assert some[0] <= 2 < some[1]


def test_the_gradient_is_that_of_a_cold_start() -> None:
    y, physics = torch.rand(2, *IMAGE), physics_of(0, 1)
    gradients = []
    for warm in (False, True):
        model = build()
        if not warm:
            model.warm_starts = None
        for _ in range(2):
            model.zero_grad()
            model(y, physics).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for cold, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, cold, rtol=1e-3, atol=1e-4)


def cold_in_evaluation(model: Any, y: Tensor, physics: Any) -> list[int]:
    return evaluations(model.eval(), y, physics)


def cold_without_gradients(model: Any, y: Tensor, physics: Any) -> list[int]:
    with torch.no_grad():
        return evaluations(model, y, physics)


def cold_with_another_measurement(model: Any, y: Tensor, physics: Any) -> list[int]:
    return evaluations(model, y.roll(4, -1), physics)


def cold_without_numbers(model: Any, y: Tensor, physics: Any) -> list[int]:
    return evaluations(model, y, physics_of())


def cold_with_another_size(model: Any, y: Tensor, physics: Any) -> list[int]:
    small = dinv.physics.Inpainting((1, 6, 6), mask=torch.full((1, 6, 6), 0.9))
    FixedPointCache.follow(small)
    small.update(sample_index=torch.tensor([0, 1]))
    return evaluations(model, y[..., :6], small)


def cold_when_old(model: Any, y: Tensor, physics: Any) -> list[int]:
    for _ in range(6):
        model(torch.rand(1, *IMAGE), physics_of(5))
    model.warm_starts.largest_age = 1.0
    return evaluations(model, y, physics)


def cold_after_a_failure(model: Any, y: Tensor, physics: Any) -> list[int]:
    config = model.DEQ
    model.DEQ = deq.Equilibrium(deq.Picard(rtol=1e-30, max_iter=3), on_failure="ignore")
    model(y, physics)
    model.DEQ = config
    return evaluations(model, y, physics)


def cold_with_unrolling(model: Any, y: Tensor, physics: Any) -> list[int]:
    model.DEQ = deq.Equilibrium(model.DEQ.solver, deq.Unrolled())
    return evaluations(model, y, physics)


@pytest.mark.parametrize(
    "call",
    [
        cold_in_evaluation,
        cold_without_gradients,
        cold_with_another_measurement,
        cold_without_numbers,
        cold_with_another_size,
        cold_when_old,
        cold_after_a_failure,
        cold_with_unrolling,
    ],
)
def test_a_start_that_is_not_valid_is_not_used(call: Any) -> None:
    model, y, physics = build(), torch.randn(2, *IMAGE), physics_of(0, 1)
    model(y, physics)
    assert min(call(model, y, physics)) > 5


def test_new_noise_leaves_a_start_valid() -> None:
    model, y, physics = build(), torch.rand(2, *IMAGE), physics_of(0, 1)
    cold = evaluations(model, y, physics)
    warm = evaluations(model, y + 0.02 * torch.randn_like(y), physics)
    assert sum(warm) < sum(cold)


def test_the_oldest_samples_are_dropped() -> None:
    model = build(capacity=3)
    y = torch.rand(5, *IMAGE)
    model(y, physics_of(0, 1, 2, 3, 4))
    assert len(model.warm_starts) == 3
    counts = evaluations(model, y, physics_of(0, 1, 2, 3, 4))
    assert [count <= 2 for count in counts] == [False, False, True, True, True]


def test_a_checkpoint_holds_the_starts(tmp_path: Path) -> None:
    model, y, physics = build(), torch.rand(2, *IMAGE), physics_of(0, 1)
    model(y, physics)
    torch.save(model.warm_starts.state_dict(), tmp_path / "cache.pt")
    other = build()
    state = torch.load(tmp_path / "cache.pt", weights_only=True)
    other.warm_starts.load_state_dict(state)
    assert max(evaluations(other, y, physics)) <= 2


@pytest.mark.parametrize("online", [False, True])
def test_the_trainer_starts_warm(online: bool, tmp_path: Path) -> None:
    counts = []

    class Recording(deq.optim.PGD):
        def _report(self, step: Any, solution: Any) -> None:
            super()._report(step, solution)
            counts.append(int(solution.evaluations.max()))

    model = Recording(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(Smooth()),
        stepsize=0.5,
        sigma_denoiser=0.1,
        DEQ=deq.Equilibrium(deq.Picard(rtol=1e-4, max_iter=200)),
    )
    model.warm_starts = FixedPointCache()
    physics = physics_of()
    x = torch.rand(4, *IMAGE)
    parts = (x,) if online else (x, physics.A(x))
    dinv.Trainer(
        model,
        physics,
        torch.optim.SGD(model.parameters(), 1e-4),
        DataLoader(IndexedDataset(TensorDataset(*parts)), batch_size=2, shuffle=True),
        epochs=3,
        losses=dinv.loss.SupLoss(),
        online_measurements=online,
        metrics=None,
        device="cpu",
        save_path=None,
        show_progress_bar=False,
        verbose=False,
        non_blocking_transfers=False,
    ).train()
    assert max(counts[2:6]) <= 0.6 * min(counts[:2])


@pytest.mark.parametrize(
    ("name", "value"),
    [("capacity", 0), ("largest_change", 0.0), ("largest_age", float("nan"))],
)
def test_arguments_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        FixedPointCache(**{name: value})


@pytest.mark.parametrize(
    ("sample", "keys"),
    [
        (torch.ones(2), {"x"}),
        ((torch.ones(2),), {"x"}),
        ((torch.ones(2), torch.ones(3)), {"x", "y"}),
        ((torch.ones(2), {"mask": torch.ones(1)}), {"x"}),
        ((torch.ones(2), torch.ones(3), {"mask": torch.ones(1)}), {"x", "y"}),
        ({"x": torch.ones(2), "y": torch.ones(2)}, {"x", "y"}),
    ],
)
def test_samples_of_all_formats_are_numbered(sample: Any, keys: set[str]) -> None:
    dataset = IndexedDataset([sample, sample], first=10)
    assert len(dataset) == 2
    for idx, number in ((0, 10), (1, 11), (-1, 11)):
        found = dataset[idx]
        assert {*found} == keys | {"params"}
        assert found["params"]["sample_index"].item() == number


def test_a_sample_of_four_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="4 parts"):
        IndexedDataset([(1, 2, 3, 4)])[0]
