"""Certified rates, stabilities and numbers of steps against dense Jacobians."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Certificate

from .dense import flat, norm
from .draws import Draw, choose, generator
from .outcomes import VoidError, ask, require, require_at_most, run
from .random_models import ALGORITHMS, RATED, ModelCase, models
from .steps import measurements, solve, step_jacobians, step_norm, step_of


def certificate_of(case: ModelCase) -> Certificate:
    """Return the certificate of a model."""
    return ask(deq.certify, case.model, case.physics, case.size)


def rates_of_models(draw: Draw) -> None:
    """The certified rate of a model bounds the Jacobian of its step."""
    case = draw(models(simple=choose(draw, (True, False))))
    certificate = certificate_of(case)
    if not certificate.rate.is_certified or certificate.rate.is_vacuous:
        raise VoidError("no rate is certified")
    truth = step_norm(case, generator(draw))
    require_at_most(truth, certificate.rate.value, f"rate of {case}")


def rates_of_affine_models(draw: Draw) -> None:
    """The same for models without networks, in which most bounds are attained."""
    case = draw(models(networks=False, simple=True))
    certificate = certificate_of(case)
    if not certificate.rate.is_certified or certificate.rate.is_vacuous:
        raise VoidError("no rate is certified")
    truth = step_norm(case, generator(draw))
    require_at_most(truth, certificate.rate.value, f"rate of {case}")


def averaged_steps(draw: Draw) -> None:
    """A step with a certified averagedness constant is averaged."""
    case = draw(models(networks=choose(draw, (False, False, True)), simple=True))
    averaged = certificate_of(case).contraction.averaged
    if not averaged.is_certified or averaged.value > 1:
        raise VoidError("the step is not proved to be averaged")
    alpha = averaged.value
    for J in step_jacobians(case, generator(draw)):
        eye = torch.eye(len(J), dtype=J.dtype)
        require_at_most(norm(J - (1 - alpha) * eye), alpha, f"alpha of {case}")


def energies(draw: Draw) -> None:
    """A certified energy falls by the certified amount in each step."""
    algorithms = ("PGD", "GD")
    case = draw(models(algorithms, networks=choose(draw, (False, True)), simple=True))
    energy = certificate_of(case).energy
    if energy is None or not energy.decreases:
        raise VoidError("no decrease is certified")
    rng, model = generator(draw), case.model
    x = rng.image(2, *case.size)
    y = measurements(case, rng.image(2, *case.size))
    parameters = model.update_params_fn(0)
    fidelity, prior = model.update_data_fidelity_fn(0), model.update_prior_fn(0)

    def value(image: torch.Tensor) -> torch.Tensor:
        penalty = run(prior.fn, image, parameters["g_param"])
        return fidelity(image, y, case.physics) + parameters["lambda"] * penalty

    with torch.no_grad():
        moved = run(step_of(case, y), x)
        before, after = value(x), value(moved)
    least = energy.decrease.value * flat(moved - x).norm(dim=1).square()
    rounding = 1e-10 * (before.abs() + after.abs() + least)
    worst = float((least - (before - after) - rounding).nan_to_num(0.0).max())
    require(worst <= 0, f"energy of {case}: {before} to {after}, at least {least}")


def rates_of_unrated_algorithms(draw: Draw) -> None:
    """No rate is certified for an algorithm without a proof."""
    case = draw(models(tuple(set(ALGORITHMS) - set(RATED)), simple=True))
    certificate = certificate_of(case)
    require(not certificate.contracts, f"a rate is certified for {case}")
    require(certificate.rate.is_vacuous, f"a rate is stated for {case}")


def contraction_ratios(draw: Draw) -> None:
    """Plain iterations approach each other at the certified rate, within the certified
    number of steps, and their residuals stay within the envelope."""
    case = draw(models(stable=True, simple=True))
    certificate = certificate_of(case)
    rate = certificate.rate
    if not certificate.contracts or rate.value > 0.97:
        raise VoidError("the rate is near 1")
    rng = generator(draw)
    y = measurements(case, rng.image(2, *case.size))
    step = step_of(case, y)
    start = rng.image(2, *case.size)
    with torch.no_grad():
        both = [
            start,
            start + rng.choice([1e-3, 1.0, 100.0]) * rng.normal(*start.shape),
        ]
        first = flat(both[0] - both[1]).norm(dim=1)
        factor = rng.choice([0.5, 1e-2, 1e-5])
        count = ask(certificate.steps_to, factor)
        sizes = max(float(part.abs().max()) for part in both)
        for k in range(min(count, 60)):
            before = flat(both[0] - both[1]).norm(dim=1)
            both = [run(step, x) for x in both]
            after = flat(both[0] - both[1]).norm(dim=1)
            rounding = 1e-12 * max(sizes, *(float(x.abs().max()) for x in both))
            worst = float((after - rounding - before * rate.value).max())
            require(worst <= 0, f"step {k} of {case}: {before} to {after}")
        if count <= 60:
            worst = float((after - rounding * 60 - factor * first).max())
            require(worst <= 0, f"steps_to({factor}) = {count}, {case}: {after}")
    case.model.DEQ.solver = deq.Picard(max_iter=60, rtol=1e-9)
    case.model.DEQ.on_failure = "ignore"
    with torch.no_grad():
        run(case.model, y, case.physics, init=(start, rng.normal(*start.shape)))
    history = case.model.solution.absolute_history
    bound = certificate.contraction.residual_factor.value * history[0]
    powers = torch.tensor(rate.value, dtype=torch.float64) ** torch.arange(len(history))
    floor = 1e-11 * (sizes + float(history[0].max()))
    excess = history - bound * powers[:, None] * (1 + 1e-9) - floor
    # Samples that have converged have no residuals any more.
    worst = float(excess.nan_to_num(0.0).max())
    require(worst <= 0, f"envelope of {case}: {worst}")


def stabilities(draw: Draw) -> None:
    """The certified stability bounds how far the reconstruction moves with the
    measurement."""
    networks = draw(st.integers(0, 3)) == 0
    case = draw(models(stable=True, simple=True, networks=networks))
    certificate = certificate_of(case)
    stability = certificate.stability
    if not (stability.is_certified and certificate.contracts):
        raise VoidError("no stability is certified")
    if certificate.rate.value > 0.96 or stability.is_vacuous:
        raise VoidError("the rate is near 1")
    rng = generator(draw)
    x = torch.zeros(1, *case.size, dtype=torch.float64)
    y = measurements(case, x)
    if not isinstance(y, torch.Tensor) or y.is_complex():
        raise VoidError("the measurement is not one real tensor")
    count = y.numel()
    base = 0 * y if case.is_affine else measurements(case, rng.image(1, *case.size))
    units = torch.eye(count, dtype=torch.float64).reshape(count, *y.shape[1:])
    size = 1.0 if case.is_affine else rng.choice([1e-3, 1.0])
    ys = torch.cat([base, base + size * units])
    start = rng.image(1, *case.size).expand(len(ys), *case.size).clone()
    out = solve(case, ys, start, certificate.rate.value).flatten(1)
    moved = (out[1:] - out[:1]) / size
    truth = norm(moved.T) if case.is_affine else float(moved.norm(dim=1).max())
    require_at_most(truth, stability.value, f"stability of {case}", 1e-7)
