r"""
Put a certificate into a paper
==============================

A certificate says what is proved of a model. This page makes the table, the
sentences, the figure and the data file of a paper from one, and bounds the
distance of a given image, such as one that was stored with 8 bits, from the
exact fixed point. Replace ``model``, ``physics`` and ``y`` by yours.
"""

import copy
import json
import math
from pathlib import Path
from textwrap import fill

import deepinv as dinv
import torch

import deepinv_equilibrium as deq

SIZE = 64  # of the photo
FOLDER = Path("certificate_in_a_paper")  # everything is written here
FOLDER.mkdir(exist_ok=True)
device = "cuda" if torch.cuda.is_available() else "cpu"

noise = dinv.physics.GaussianNoise(0.05, rng=torch.Generator(device).manual_seed(0))
kernel = dinv.physics.functional.gaussian_blur(sigma=1.0).to(device)
physics = dinv.physics.BlurFFT(
    (1, SIZE, SIZE), kernel, noise_model=noise, device=device
)
truth = deq.datasets.Photos("test", grey=True, img_size=SIZE)[0]["x"][None].to(device)
y = physics(truth)
denoiser = deq.plugins.create(
    "denoisers", "convex-potential", in_channels=1, contraction=0.9
)
model = deq.plugins.create(
    "reconstructors", "certified-deq-pgd", denoiser=denoiser, sigma_denoiser=0.05
).to(device)

# %%
# The table
# ---------
# The certificate is for these weights, this operator and this image size. The
# table has every constant, rounded to the safe side, and how well each is
# established. It needs the LaTeX package ``booktabs``.

certificate = deq.certify(model, physics, img_size=(1, SIZE, SIZE))
print(certificate.to_latex())

# %%
# What may be written
# -------------------
# The words follow from the kinds, which :doc:`/user_guide/certificates`
# defines: *proved* for a certified bound, *estimated*, with the probability of
# failure and the point, and *observed*. A number that is estimated is not a
# Lipschitz constant of the network. ``contracts`` is the strongest property; if
# ``certificate.convergence`` is another one, there is no rate.

assert certificate.rate.is_certified
sentence = (
    f"The step is proved to be a contraction in the {certificate.norm} with a "
    f"rate of at most {certificate.rate.rounded(3)}. Hence every measurement has "
    f"exactly one reconstruction, {certificate.steps_to(1e-3)} steps from any start "
    "reduce its error to 1e-3 of what it was, and a change of the measurement by e "
    f"changes the reconstruction by at most {certificate.stability.rounded(3)} |e|."
)
print(fill(sentence, 72))

# %%
# The distance of a given image
# -----------------------------
# The images of a paper are not exact fixed points: the solver stopped at a
# tolerance, and the file has 8 bits. :meth:`distance
# <deepinv_equilibrium.certificates.Certificate.distance>` bounds the distance of
# any image from the fixed point, in the :math:`\ell_2` norm; divided by the
# square root of the number of pixels, the root mean square distance, here in
# grey levels of 1/255. The bound is the residual over :math:`1 - \rho`, so that the
# rounding of a file counts ten times for the rate .9, and a hundred times for .99. With
# ``near=``, the image before its rounding, it counts once. The last column is the
# distance from a solve to 1e-12 in float64.

with torch.no_grad():
    solved = model(y, physics)
images = {
    "tolerance 1e-4": solved,
    "stored with 8 bits": (solved.clamp(0, 1) * 255).round() / 255,
    "the measurement": y,
}

exact = copy.deepcopy(model).double()
exact.DEQ = deq.Equilibrium(deq.Picard(max_iter=1000, rtol=1e-12))
physics64 = dinv.physics.BlurFFT((1, SIZE, SIZE), kernel.double(), device=device)
with torch.no_grad():
    fixed_point = exact(y.double(), physics64)

grey_levels = 255 / math.sqrt(y[0].numel())
for name, image in images.items():
    (bound,) = certificate.distance(model, y, physics, image, near=solved)
    proved = math.ceil(1000 * bound.value * grey_levels) / 1000  # not rounded down
    found = (image - fixed_point).norm().item() * grey_levels
    print(f"{name:18s} {bound.kind}: at most {proved:.3f}, in fact {found:.3f}")

# %%
# The data file
# -------------
# ``to_dict`` gives everything as plain data, with the version of the package
# and digests of all parts of the model and the operator. Publish it beside the
# weights: whoever loads both can make the certificate again and compare.

(FOLDER / "certificate.json").write_text(json.dumps(certificate.to_dict(), indent=1))
published = json.loads((FOLDER / "certificate.json").read_text())
print({name: published[name] for name in ("model", "img_size", "version", "proved")})
print(published["rate"]["relation"], published["rate"]["value"])
again = deq.certify(model, physics, img_size=(1, SIZE, SIZE)).to_dict()
print("the same model and operator:", again["fingerprint"] == published["fingerprint"])

# %%
# The figure
# ----------
# The envelope holds for every measurement. The residuals were observed for this
# one, with the plain iteration.

model.DEQ = deq.Equilibrium(deq.Picard(max_iter=200, rtol=1e-5))
with torch.no_grad():
    model(y, physics)
figure = certificate.plot(model.solution)
figure.savefig(FOLDER / "envelope.pdf")

# %%
# Say also what a certificate does not prove: that the image is good. The
# section *Limits* of :doc:`/user_guide/certificates` lists the assumptions, such as
# exact arithmetic in the step. The notes that apply to this model are at the end of
# ``print(certificate)``, and in the file:

print(*published["notes"], sep="\n")
