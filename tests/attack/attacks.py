"""The properties that random cases attack."""

from __future__ import annotations

from . import (
    bundled_attacks,
    gradient_attacks,
    module_attacks,
    mutation_attacks,
    physics_attacks,
    rate_attacks,
    solver_attacks,
)
from .cases import Attack

ATTACKS = {
    attack.name: attack
    for attack in (
        Attack(module_attacks.lipschitz_of_modules, short=26, share=4),
        Attack(module_attacks.lipschitz_of_layers, short=320, share=6),
        Attack(module_attacks.convolution_norms, short=40, share=3),
        Attack(module_attacks.edited_modules, short=15, share=1),
        Attack(module_attacks.complex_modules, short=8, share=0.2),
        Attack(physics_attacks.spectra, short=24, share=3),
        Attack(physics_attacks.spectra_of_usual_physics, short=100, share=3),
        Attack(physics_attacks.spectra_of_combinations, short=90, share=2),
        Attack(physics_attacks.spectra_after_edits, short=15, share=1),
        Attack(physics_attacks.proximal_operators, short=25, share=1),
        Attack(rate_attacks.rates_of_models, short=22, share=4),
        Attack(rate_attacks.rates_of_affine_models, short=40, share=5),
        Attack(rate_attacks.averaged_steps, short=15, share=1),
        Attack(rate_attacks.energies, short=25, share=1),
        Attack(rate_attacks.rates_of_unrated_algorithms, short=5, share=0.2),
        Attack(rate_attacks.contraction_ratios, short=8, share=0.5),
        Attack(rate_attacks.stabilities, short=90, share=1),
        Attack(mutation_attacks.changes_after_certification, short=22, share=4),
        Attack(mutation_attacks.changes_before_certification, short=26, share=3),
        Attack(mutation_attacks.hidden_numbers, short=10, share=0.5),
        Attack(mutation_attacks.hidden_numbers_of_physics, short=10, share=0.3),
        Attack(gradient_attacks.gradient_error_bounds, short=25, share=2),
        Attack(gradient_attacks.theorems_about_gradients, short=30, share=1),
        Attack(gradient_attacks.adjoints_at_the_fixed_point, short=15, share=1),
        Attack(gradient_attacks.distances_from_neumann_series, short=30, share=1),
        Attack(gradient_attacks.plans, short=3, share=0.5),
        Attack(gradient_attacks.step_constants_of_blocks, short=20, share=0.5),
        Attack(gradient_attacks.implicit_gradients, short=5, share=0.3),
        Attack(gradient_attacks.batch_mates, short=5, share=0.3),
        Attack(bundled_attacks.bundled_models, short=1, share=0.5),
        Attack(solver_attacks.safeguarded_solves, short=8, share=0.5),
        Attack(solver_attacks.duality_gaps, short=4, share=0.3),
        Attack(solver_attacks.scalar_rates, short=80, share=8),
        Attack(solver_attacks.error_bounds_of_regularisation, short=20, share=0.5),
    )
}
