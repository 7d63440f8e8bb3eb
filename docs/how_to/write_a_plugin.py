r"""
Write a plugin
==============

A plugin is an installable package whose denoisers, solvers and other components
have names in this package, see :doc:`/user_guide/plugins`. A component is written
and tried in a script first. Then it moves to a package:
``examples/plugin`` in the repository is one to copy. Replace ``Smooth`` by your
component.
"""

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium import testing

# %%
# Try a component
# ---------------
# A denoiser is a :class:`deepinv.models.Denoiser`. If it declares its Lipschitz
# constant, models with it can be certified; :doc:`certify_own_network` shows how to
# prove one. Here the image is averaged with its four neighbours, periodically.
# Shifts keep the norm, so a weighted mean of them does not increase it.


class Smooth(dinv.models.Denoiser):
    """The weighted mean of an image and its neighbours, contracted towards 1/2."""

    def __init__(self, signal_std: float = 0.2, contraction: float = 0.9) -> None:
        super().__init__()
        self.signal_std = signal_std
        self.contraction = contraction

    def forward(self, x: Tensor, sigma: float | Tensor, **kwargs: object) -> Tensor:
        """Denoise a batch of images."""
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        power = level.reshape(-1, 1, 1, 1) ** 2
        weight = power / (power + self.signal_std**2)
        shifts = [x.roll(step, axis) for step in (1, -1) for axis in (-1, -2)]
        mean = (1 - weight) * x + weight * torch.stack(shifts).mean(0)
        return 0.5 + self.contraction * (mean - 0.5)

    def lipschitz_bound(
        self, img_size: tuple[int, ...] | None = None
    ) -> deq.certificates.Bound:
        """Return the Lipschitz constant, for every noise level."""
        return deq.certificates.Bound(self.contraction, source="mean of shifts")


# %%
# The contract suite of its kind looks for counterexamples to what a component
# declares; :doc:`/user_guide/testing` has the suites of the other kinds.

print(testing.check_denoiser(Smooth(), img_size=(1, 6, 6)))

# %%
# :func:`register <deepinv_equilibrium.plugins.register>` gives it a name in this
# process, so that the presets can use it:

deq.plugins.register("denoisers", "smooth", Smooth, override=True)
model = deq.plugins.create(
    "reconstructors",
    "certified-deq-pgd",
    denoiser="smooth",
    contraction=0.95,
    sigma_denoiser=0.2,
)
noise = dinv.physics.GaussianNoise(0.1, rng=torch.Generator().manual_seed(0))
physics = dinv.physics.Inpainting((1, 64, 64), mask=0.5, noise_model=noise)
truth = deq.datasets.Photos("test", grey=True, img_size=64)[0]["x"][None]
y = physics(truth)
with torch.no_grad():
    restored = model(y, physics)
print(deq.certify(model, physics, img_size=(1, 64, 64)).rate)

figure, axes = plt.subplots(1, 3, figsize=(8, 3), layout="constrained")
images = {"truth": truth, "measurement": y, "restored": restored}
for axis, (name, image) in zip(axes, images.items(), strict=True):
    axis.imshow(image[0, 0].numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_title(name)
    axis.set_axis_off()
figure.savefig("write_a_plugin.png", dpi=110)

# %%
# The package
# -----------
# Copy ``examples/plugin``. Its ``pyproject.toml`` names the components, one table
# for each kind:
#
# .. literalinclude:: /../examples/plugin/pyproject.toml
#    :language: toml
#    :caption: examples/plugin/pyproject.toml
#
# The denoiser is a Wiener filter. It declares a Lipschitz constant and that it
# is firmly nonexpansive, so that :func:`certify <deepinv_equilibrium.certify>` also
# covers ADMM and Douglas-Rachford splitting:
#
# .. literalinclude:: /../examples/plugin/src/deq_plugin_example/denoiser.py
#    :caption: examples/plugin/src/deq_plugin_example/denoiser.py
#
# The solver has one method, ``begin``, which :doc:`/user_guide/solvers` explains:
#
# .. literalinclude:: /../examples/plugin/src/deq_plugin_example/solver.py
#    :caption: examples/plugin/src/deq_plugin_example/solver.py
#
# The adjoint is explained in :doc:`/user_guide/adjoints`:
#
# .. literalinclude:: /../examples/plugin/src/deq_plugin_example/adjoint.py
#    :caption: examples/plugin/src/deq_plugin_example/adjoint.py
#
# The tests run the contract suites, and make a model from the names:
#
# .. literalinclude:: /../examples/plugin/tests/test_contracts.py
#    :caption: examples/plugin/tests/test_contracts.py
#
# Install and test
# ----------------
# In the folder of the plugin::
#
#     pip install -e ".[test]"
#     pytest
#
# Names are read from the installed metadata: after a change of
# ``pyproject.toml``, install again. The components are then found in every
# process, without an import of the plugin:
#
# .. code-block:: python
#
#    deq.plugins.describe("denoisers")["wiener"]
#    denoiser = deq.plugins.create("denoisers", "wiener", signal_std=0.3)
#    solver = deq.plugins.create("solvers", "barzilai-borwein", rtol=1e-5)
#
# If a name is not found or a plugin cannot be imported, the error says why, see
# :doc:`/user_guide/plugins`.
