"""Models that the registry creates by name. No other package looks up names."""

from .certified import certified_deq_pgd
from .certified_ridge import certified_ridge_gd
from .de_presets import de_admm, de_grad, de_prox
from .named_components import (
    channelwise,
    deq_md,
    equilibrium_regularisation,
    gradient_step_pgd,
    network_residual,
    red,
)
from .plug_and_play import (
    EquilibriumPreset,
    deq_admm,
    deq_drs,
    deq_gd,
    deq_hqs,
    deq_pdcp,
    deq_pgd,
    retune_pgd,
)
from .projected_gradient_preset import projected_gradient
from .saved_models import SavedModelError, load, save
from .tv_map_preset import tv_map
from .unrolled_tv_preset import unrolled_smoothed_tv
from .wavelet_preset import wavelet

__all__ = [
    "EquilibriumPreset",
    "SavedModelError",
    "certified_deq_pgd",
    "certified_ridge_gd",
    "channelwise",
    "de_admm",
    "de_grad",
    "de_prox",
    "deq_admm",
    "deq_drs",
    "deq_gd",
    "deq_hqs",
    "deq_md",
    "deq_pdcp",
    "deq_pgd",
    "equilibrium_regularisation",
    "gradient_step_pgd",
    "load",
    "network_residual",
    "projected_gradient",
    "red",
    "retune_pgd",
    "save",
    "tv_map",
    "unrolled_smoothed_tv",
    "wavelet",
]
