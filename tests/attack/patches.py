"""Wrong formulas, each of which the short attack must notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CERTIFICATES = "certificates"
FORWARD = f"{CERTIFICATES}/rates/forward_backward_rates.py"
DOUGLAS = f"{CERTIFICATES}/rates/douglas_rachford_rates.py"
SENSITIVITY = f"{CERTIFICATES}/rates/data_sensitivity.py"
AVERAGED = f"{CERTIFICATES}/rates/averaged_operators.py"
ENERGY = f"{CERTIFICATES}/rates/energy_decrease.py"
LIPSCHITZ = f"{CERTIFICATES}/lipschitz_bounds"
SPECTRA = f"{CERTIFICATES}/spectra"
GRADIENTS = f"{CERTIFICATES}/gradients"
CONTRACTION = "optim/contraction"


@dataclass(frozen=True)
class Patch:
    """
    One mistake.

    :param file: file of the package.
    :param old: text that the file has once.
    :param new: the mistake.
    :param what: the mistake in words.
    """

    file: str
    old: str
    new: str
    what: str

    def apply(self, package: Path) -> None:
        """
        Make the mistake in a copy of the package.

        :raises ValueError: if the file does not have the text exactly once.
        """
        path = package / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self.file} has {self.old!r} {text.count(self.old)} times: update "
                f"the patch {self.what!r}."
            )
        path.write_text(text.replace(self.old, self.new))


PATCHES = (
    # Averaged steps and energies.
    Patch(
        AVERAGED,
        "return rounded_up(tau * L / 2)",
        "return rounded_up(tau * L / 4)",
        "averaged gradient step: a quarter for a half",
    ),
    Patch(
        AVERAGED,
        "return alpha if beta == 1 else rounded_up(alpha * beta)",
        "return alpha",
        "averaged relaxation: the relaxation is missing",
    ),
    Patch(
        ENERGY,
        "half = (L - m) / 2",
        "half = (L - m) / 4",
        "decrease of the energy: a quarter for a half",
    ),
    # Rates.
    Patch(
        FORWARD,
        "value = max(abs(1 - tau * mu), abs(1 - tau * L))",
        "value = min(abs(1 - tau * mu), abs(1 - tau * L))",
        "gradient step: min for max",
    ),
    Patch(
        FORWARD,
        "abs(1 - tau * mu), abs(1 - tau * L))",
        "abs(1 - tau * mu), 1 - tau * L)",
        "gradient step: a missing modulus",
    ),
    Patch(
        FORWARD,
        "gradient_step(mu, L, tau) + tau * lipschitz",
        "gradient_step(mu, L, tau) + tau**2 * lipschitz",
        "gradient descent: an exponent",
    ),
    Patch(
        FORWARD,
        "linear + tau * weight * lipschitz",
        "linear + tau * lipschitz",
        "RED: a dropped weight",
    ),
    Patch(
        FORWARD,
        "red(mu, L, tau, weight / 2, 1.0)",
        "red(mu, L, tau, weight / 4, 1.0)",
        "firmly nonexpansive RED: a factor",
    ),
    Patch(
        FORWARD,
        "_product(lipschitz, 1 / (1 + tau * mu))",
        "_product(lipschitz, 1 / (1 + tau * mu) ** 2)",
        "half-quadratic splitting: an exponent",
    ),
    Patch(
        FORWARD,
        "abs(1 - beta) + beta * rate",
        "(1 - beta) + beta * rate",
        "relaxation: a missing modulus",
    ),
    Patch(
        FORWARD,
        "lower, upper = mu + m, L + L_R",
        "lower, upper = mu - m, L + L_R",
        "convex gradient descent: a sign",
    ),
    Patch(
        DOUGLAS,
        "max(2 * _shrunk(tau, mu) - 1, 1 - 2 * _shrunk(tau, L))",
        "max(2 * _shrunk(tau, mu) - 1, 2 * _shrunk(tau, L) - 1)",
        "reflection: a sign",
    ),
    Patch(
        DOUGLAS,
        "linear + beta * lipschitz * reflection",
        "linear + beta * lipschitz**2 * reflection",
        "Douglas-Rachford: a square",
    ),
    Patch(
        DOUGLAS,
        "abs(1 - beta / 2) + beta / 2 * reflected",
        "abs(1 - beta / 2) + beta / 4 * reflected",
        "firmly nonexpansive Douglas-Rachford: a factor",
    ),
    Patch(
        DOUGLAS,
        "(1 + t + 2 * residual * t)",
        "(1 + 2 * t + 2 * residual * t)",
        "Ryu's rate: a factor",
    ),
    Patch(
        SENSITIVITY,
        "value = math.sqrt(b / a) / 2",
        "value = math.sqrt(b / a) / 4",
        "sensitivity of the proximal operator: a factor",
    ),
    Patch(
        SENSITIVITY,
        "moved = outward(rate * moved + sensitivity)",
        "moved = outward(moved + rate * sensitivity)",
        "sensitivity of a block: the rate at the wrong place",
    ),
    Patch(
        SENSITIVITY,
        "outward(moved / (1 - product))",
        "outward(moved / (1 - product**2))",
        "sensitivity of the fixed point: a square",
    ),
    # Lipschitz constants.
    Patch(
        f"{LIPSCHITZ}/torus.py",
        "math.cos(math.pi * (k - 1) / (2 * size))",
        "math.cosh(math.pi * (k - 1) / (2 * size))",
        "norm on the torus: the correction on the wrong side",
    ),
    Patch(
        f"{LIPSCHITZ}/padding.py",
        "return sqrt(repeats)",
        "return 1.0",
        "padding: a dropped factor",
    ),
    Patch(
        f"{LIPSCHITZ}/padding.py",
        "sqrt(max(1 + most,",
        "sqrt(max(most,",
        "replicate padding: a dropped one",
    ),
    Patch(
        f"{LIPSCHITZ}/composition_rules.py",
        "outward(1 + block.value)",
        "outward(block.value)",
        "residual block: a dropped one",
    ),
    Patch(
        f"{LIPSCHITZ}/composition_rules.py",
        "product = outward(product * bound.value)",
        "product = max(product, bound.value)",
        "sequence: max for the product",
    ),
    Patch(
        f"{LIPSCHITZ}/pointwise_rules.py",
        "nn.SiLU: 1.09985",
        "nn.SiLU: 1.0",
        "SiLU: slope 1",
    ),
    Patch(
        f"{LIPSCHITZ}/pointwise_rules.py",
        "float(weight.abs().max())",
        "float(weight.max())",
        "PReLU: a missing modulus",
    ),
    Patch(
        f"{LIPSCHITZ}/pointwise_rules.py",
        "scale = torch.rsqrt(variance)",
        "scale = 1 / variance.clamp(min=1)",
        "batch normalisation: a missing root",
    ),
    Patch(
        f"{LIPSCHITZ}/pooling_rules.py",
        "math.prod(-(-k // s)",
        "math.prod((k // s or 1)",
        "pooling: a rounding down",
    ),
    Patch(
        f"{LIPSCHITZ}/upsampling_rules.py",
        "float(columns.sum(-1).max())",
        "float(columns.sum(-1).mean())",
        "upsampling: mean for max",
    ),
    # Spectra.
    Patch(
        f"{SPECTRA}/decomposition_rules.py",
        "return exact(mask.square(), MASK)",
        "return exact(mask.abs(), MASK)",
        "mask: a missing square",
    ),
    Patch(
        f"{SPECTRA}/decomposition_rules.py",
        "largest = float((squares + rounding).max())",
        "largest = float((squares + rounding).mean())",
        "exact spectrum: mean for max",
    ),
    Patch(
        f"{SPECTRA}/nonnegative_operators.py",
        "ratio = float(((image + rounding * peaks(v)) / v).max())",
        "ratio = float(((image + rounding * peaks(v)) / v).mean())",
        "Collatz-Wielandt quotient: mean for max",
    ),
    Patch(
        f"{SPECTRA}/combination_rules.py",
        "least = outward(combine(b.value for b in lower), is_lower=True)",
        "least = outward(sum(b.value for b in lower), is_lower=True)",
        "composition: a sum for the product in the lower end",
    ),
    Patch(
        f"{SPECTRA}/combination_rules.py",
        "most = outward(combine(b.value for b in upper))",
        "most = outward(max(b.value for b in upper))",
        "stack: max for the sum",
    ),
    # Gradients.
    Patch(
        f"{GRADIENTS}/gradient_bounds.py",
        "return rate ** (order + 1) / (1 - rate)",
        "return rate ** (order + 2) / (1 - rate)",
        "Lemma 1: an exponent",
    ),
    Patch(
        f"{GRADIENTS}/gradient_bounds.py",
        "+ rate**restarts * distance * loss_smoothness",
        "+ rate ** (2 * restarts) * distance * loss_smoothness",
        "Theorem 2: an exponent",
    ),
    Patch(
        f"{GRADIENTS}/gradient_terms.py",
        "value / (1 - rate.value)",
        "value / (1 + rate.value)",
        "gradient error: a sign",
    ),
    Patch(
        f"{GRADIENTS}/gradient_terms.py",
        "loss = loss * self.distance.norm()",
        "loss = loss * self.distance.norm() ** 2",
        "gradient error: a square",
    ),
    Patch(
        f"{GRADIENTS}/step_constants.py",
        "derived(L_J.value * powers[-1] * sum(powers), (L_J, rate), source)",
        "derived(L_J.value * powers[-1], (L_J, rate), source)",
        "constants of a block: a dropped sum",
    ),
    Patch(
        f"{GRADIENTS}/gradient_bounds.py",
        "change = rate * change + (",
        "change = rate**2 * change + 0.1 * (",
        "distance from a Neumann series: factors",
    ),
    # The constants of models, and the models themselves.
    Patch(
        f"{CONTRACTION}/prior_constants.py",
        "shrinkage = 1 / (1 + exact)",
        "shrinkage = 1 / (1 + exact) ** 2",
        "Tikhonov: an exponent",
    ),
    Patch(
        f"{CONTRACTION}/rate_scheme.py",
        'self["stepsize"] * norm * self.data.precision',
        'self["stepsize"] * norm',
        "gradient in the data: a dropped precision",
    ),
    Patch(
        "equilibrium/measured_physics.py",
        "gamma * self.original.A_adjoint_A(image)",
        "gamma * image",
        "iterative proximal operator: a dropped operator",
    ),
    Patch(
        "equilibrium/measured_physics.py",
        "right = z + gamma * (at_y - gram)",
        "right = z + gamma * (at_y.detach() - gram)",
        "iterative proximal operator: a detached measurement",
    ),
    Patch(
        f"{CERTIFICATES}/rates/monotone_equation.py",
        "noise_level + alpha * source_norm",
        "noise_level + alpha**2 * source_norm",
        "source condition: an exponent",
    ),
    Patch(
        "optim/total_variation/tv_denoising.py",
        "return slack + mismatch,",
        "return mismatch,",
        "duality gap: a dropped term",
    ),
    Patch(
        "fixed_points/adjoints/neumann.py",
        "Picard(max_iter=self.order, rtol=0.0)",
        "Picard(max_iter=max(1, self.order - 1), rtol=0.0)",
        "Neumann series: a dropped term",
    ),
    Patch(
        "models/denoisers/convex_potential_layer.py",
        "filters.flip(-2, -1).transpose(0, 1)",
        "filters.transpose(0, 1)",
        "convex potential layer: a correlation for the transpose",
    ),
)
