r"""
Save, load and export a model
=============================

:func:`deq.save <deepinv_equilibrium.save>` writes a model to one file, with its
weights, its arguments, its solver and its adjoint, and :func:`deq.load
<deepinv_equilibrium.load>` makes it again. ``torch.export`` writes a program
with a fixed number of iterations, which runs where neither this package nor
deepinv is installed. Replace the name and the arguments of the model by yours.
"""

import subprocess
import sys
from pathlib import Path
from textwrap import fill

import deepinv as dinv
import torch

import deepinv_equilibrium as deq

SIZE = 32  # of the photo
FOLDER = Path("save_load_export")  # everything is written here
FOLDER.mkdir(exist_ok=True)

torch.manual_seed(0)
physics = dinv.physics.BlurFFT(
    (1, SIZE, SIZE),
    filter=dinv.physics.functional.gaussian_blur(sigma=1.0),
    noise_model=dinv.physics.GaussianNoise(0.05),
)
truth = deq.datasets.Photos("test", grey=True, img_size=SIZE)[0]["x"][None]
y = physics(truth)

# %%
# Weights and configuration in one file
# -------------------------------------
# The file contains the names and arguments with which
# :func:`plugins.create <deepinv_equilibrium.plugins.create>` made the model
# and its components, so make them by it. What is trained or set later is
# saved, too: the weights, the step size, and ``DEQ``.

denoiser = deq.plugins.create("denoisers", "small-drunet", in_channels=1)
model = deq.plugins.create(
    "reconstructors",
    "retune-pgd",
    denoiser=denoiser,
    layers=5,
    restarts=4,
    stepsize=1.0,
    sigma_denoiser=0.05,
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
(model(y, physics) - truth).square().mean().backward()
optimizer.step()
model.DEQ = deq.Equilibrium(deq.Anderson(rtol=1e-5), deq.JacobianFree())

deq.save(model, FOLDER / "model.pt")
again = deq.load(FOLDER / "model.pt")
with torch.no_grad():
    image = model.eval()(y, physics)
    same = torch.equal(again.eval()(y, physics), image)
print("the same image:", same)
print(again.DEQ.solver, again.DEQ.adjoint, sep="\n")

# %%
# The file has no pickled code and is read with ``weights_only=True``. A
# checkpoint of the ``Trainer`` is another file: it has the state of the optimiser,
# and not the arguments of the model, see :doc:`checkpoints_and_logging`.

content = torch.load(FOLDER / "model.pt", weights_only=True)
print(*content)

# %%
# A model that was not made by name has no arguments that could be saved, and
# is refused. Give your function a name:
# :func:`plugins.register <deepinv_equilibrium.plugins.register>` does so in
# a running process, and :doc:`write_a_plugin` for an installed package. The
# process that loads the file needs the same name.


def own_model(channels: int = 1, stepsize: float = 1.0) -> deq.optim.PGD:
    """Return a model of your own."""
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(deq.models.SmallDRUNet(channels)),
        stepsize=stepsize,
        sigma_denoiser=0.05,
        DEQ=deq.Equilibrium(),
    )


try:
    deq.save(own_model(), FOLDER / "own.pt")
except ValueError as error:
    print(fill(str(error), 72))
deq.plugins.register("reconstructors", "own-model", own_model, override=True)
own = deq.plugins.create("reconstructors", "own-model", stepsize=0.9)
deq.save(own, FOLDER / "own.pt")
print(deq.load(FOLDER / "own.pt").params_algo["stepsize"][0].item())

# %%
# Export
# ------
# :class:`FixedIterations <deepinv_equilibrium.equilibrium.FixedIterations>` is
# a frozen copy of a model with a fixed number of iterations, for one physics.
# ``torch.export`` writes it, with the weights and the operator, to one file
# without pickled code. The number of iterations comes from the report: the plain
# iteration is what is exported, so ask how many of them are needed.

model.DEQ = deq.Equilibrium(deq.Picard(rtol=1e-3))
with torch.no_grad():
    image = model(y, physics)
iterations = int(model.solution.iterations.max())
print(f"{iterations} iterations, {model.solution.status[0].name}")

frozen = deq.equilibrium.FixedIterations(model, physics, iterations)
with torch.no_grad():
    program = torch.export.export(frozen, (y,))
torch.export.save(program, FOLDER / "program.pt2")

# %%
# The program has no solver, no checks and no report. It takes measurements of
# the size and the batch size of the example, unless dynamic dimensions are
# named. :class:`FixedIterations <deepinv_equilibrium.equilibrium.FixedIterations>`
# says which models can be exported. A process that imports only torch runs it:

script = """
import sys, torch
y, image = torch.load("pair.pt", weights_only=True)
found = torch.export.load("program.pt2").module()(y)
print("imported deepinv:", "deepinv" in sys.modules)
print("relative difference:", f"{float((found - image).norm() / image.norm()):.0e}")
"""
torch.save((y, image), FOLDER / "pair.pt")
command = [sys.executable, "-c", script]
run = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=True)
print(run.stdout)
