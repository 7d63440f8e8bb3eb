r"""
Deblur with your own point spread function
==========================================

This page deblurs a grey image with a point spread function (PSF) from a file. The noise
level is unknown and is estimated from the image. Three models restore it, and the
page prints what is proved of each. For your own data, set ``PSF_FILE`` and replace
the two lines below *The image*.
"""

import tempfile
from pathlib import Path

import deepinv as dinv
import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage.restoration import estimate_sigma

import deepinv_equilibrium as deq

PSF_FILE = Path(tempfile.mkdtemp()) / "psf.npy"  # replace it by your file
NOISE_LEVEL = 0.02  # of the example; the models do not read it

device = "cuda" if torch.cuda.is_available() else "cpu"

# An example, as an instrument records it: counts of a point source, with a background.
down, across = np.mgrid[-4:5, -4:5]
spot = np.exp(-((down + across) ** 2) / 50 - (down - across) ** 2 / 5)
np.save(PSF_FILE, (900 * spot + 20).round())

# %%
# The point spread function
# -------------------------
# Subtract the background, remove negative values and divide by the sum. Then the blur
# keeps the brightness, and :math:`\|A\| \leq 1`, so that the step size 1 fits all
# models of this page. Read a TIFF file by ``skimage.io.imread(PSF_FILE)``.

psf = np.load(PSF_FILE).astype(np.float64)
psf = (psf - np.median(psf[[0, 0, -1, -1], [0, -1, 0, -1]])).clip(0)
psf = psf / psf.sum()
kernel = torch.from_numpy(psf).float()[None, None].to(device)

# %%
# The blur of a point is the PSF as it is stored, without a reflection. The centre of an
# array of :math:`n` rows is row :math:`\lfloor n/2 \rfloor`. If the PSF is centred
# elsewhere, or between two pixels, as in a symmetric array of even size, then the
# restored image is displaced by the difference.
#
# With ``padding="valid"`` nothing is assumed about the scene outside the image: the
# restored image is larger than the measured one, by half a PSF on each side. With
# ``padding="circular"`` both have one size, and artefacts at the borders may
# result.

noise = dinv.physics.GaussianNoise(
    NOISE_LEVEL, rng=torch.Generator(device).manual_seed(0)
)
physics = dinv.physics.Blur(kernel, padding="valid", noise_model=noise, device=device)
point = torch.zeros(1, 1, 17, 17, device=device)
point[..., 8, 8] = 1
centre = physics.A(point)[0, 0] - kernel[0, 0]
print(f"image of a point minus PSF: at most {centre.abs().max():.0e}")

# %%
# The image
# ---------
# A measurement has shape ``(1, 1, H, W)``, of any size, float32, in :math:`[0, 1]`. For
# an image of your own:
#
# .. code-block:: python
#
#    array = skimage.io.imread("image.tif")  # grey, unsigned integers of 16 bits
#    y = torch.from_numpy(array.astype("float32") / 65535)[None, None].to(device)

camera = deq.datasets.Photos("train", grey=True)[5]["x"]
truth = camera[None, :, 70:150, 195:283].to(device)
y = physics(truth)
inner = truth[..., 4:-4, 4:-4]  # what the measurement shows

# %%
# The noise level
# ---------------
# The estimator of scikit-image is the median of the finest wavelet coefficients. A
# blurred image has little detail, so most of them are noise. In a sharp image with
# much texture, the estimate is too large. ``PatchCovarianceNoiseEstimator`` in
# ``deepinv.models`` is an alternative.

sigma = float(estimate_sigma(y[0, 0].cpu().numpy()))
print(f"estimated {sigma:.4f}, true {NOISE_LEVEL}, {sigma / NOISE_LEVEL - 1:+.1%}")

# %%
# Three models
# ------------
# All of them have shipped weights for grey images and need no training.
#
# - *DRUNet*: plug-and-play with ``small-drunet``.
# - *contracting*: ``certified-deq-pgd``, with a denoiser that contracts.
# - *ridge*: gradient descent on an energy with a convex regulariser. The
#   regularisers for much noise are better for deblurring; with this
#   ``lambda_reg`` one counts as much as that for the estimated level.
#
# The factors of the noise level are rules of thumb. They were tried on one image, and
# you can learn them from your own: see :doc:`/auto_how_to/own_images`.

ridge_sigma = min(8 * sigma, 0.15)
models = {
    "DRUNet": deq.plugins.create(
        "reconstructors",
        "retune-pgd",
        denoiser=deq.models.SmallDRUNet(in_channels=1),
        layers=5,
        restarts=10,
        sigma_denoiser=sigma,
    ),
    "contracting": deq.plugins.create(
        "reconstructors",
        "certified-deq-pgd",
        denoiser=deq.models.ConvexPotentialDenoiser(in_channels=1, contraction=0.99),
        sigma_denoiser=sigma / 2,
    ),
    "ridge": deq.optim.GD(
        data_fidelity=dinv.optim.L2(),
        prior=deq.models.RidgeRegulariser(in_channels=1),
        stepsize="auto",
        lambda_reg=(sigma / ridge_sigma) ** 2,
        sigma_denoiser=ridge_sigma,
        DEQ=deq.Equilibrium(deq.Anderson(rtol=3e-4)),
    ),
}
# The default start, A^T y, is dark at the borders with padding="valid", and a solve may
# stop before they are restored. This one is nearer.
start = torch.nn.functional.pad(y, (4, 4, 4, 4), mode="replicate")

psnr = dinv.metric.PSNR()
shown = {"truth": inner, "measured": y}
for name, model in models.items():
    with torch.no_grad():
        restored = model.to(device)(y, physics, init=start)
    shown[name] = restored[..., 4:-4, 4:-4]
    print(f"{name}: {model.solution.status[0].name}")

figure, panels = plt.subplots(1, 5, figsize=(12, 2.4), layout="constrained")
for axes, (name, image) in zip(panels, shown.items(), strict=True):
    axes.imshow(image[0, 0].cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    axes.axis("off")
    if name != "truth":
        name = f"{name}, {psnr(image, inner).item():.2f} dB"
        print(name)
    axes.set_title(name)
figure.savefig("own_point_spread_function.png", dpi=110)

# %%
# What is proved
# --------------
# A certificate is made for the size of the restored image.

img_size = tuple(restored.shape[1:])
certificates = {
    name: deq.certify(model, physics, img_size) for name, model in models.items()
}
for name, certificate in certificates.items():
    print(f"{name:12s}{certificate.convergence:10s}rate {certificate.rate}")

# %%
# - *contracts*: there is one restored image, and the iteration converges to it from
#   every start at the rate.
# - *converges*: the blur loses frequencies, so the curvature of the data fidelity is 0
#   at worst, and that of the convex regulariser may be 0, too. There is no rate.
#   The energy is convex, and the iteration converges to a minimiser.
# - *unproved*: for the DRUNet no theorem applies. The line says which term is missing.
#
# A weakly convex regulariser denoises better, see :doc:`/user_guide/denoisers`. Each
# step decreases its energy, but the limit may be a critical point that is no minimiser.
# A rate needs a small ridge in the data fidelity, which moves the image a little
# towards zero. :doc:`/user_guide/certificates` explains these properties.


def proved(fidelity: dinv.optim.DataFidelity, weak_convexity: float) -> str:
    """Return what is proved with another fidelity or regulariser."""
    model = deq.optim.GD(
        data_fidelity=fidelity,
        prior=deq.models.RidgeRegulariser(1, weak_convexity=weak_convexity),
        stepsize="auto",
        lambda_reg=(sigma / ridge_sigma) ** 2,
        sigma_denoiser=ridge_sigma,
        DEQ=deq.Equilibrium(),
    ).to(device)
    certificate = deq.certify(model, physics, img_size)
    return f"{certificate.convergence}, rate {certificate.rate}"


print("weakly convex:", proved(dinv.optim.L2(), weak_convexity=1.0))
print("with a ridge: ", proved(deq.optim.RidgeL2(kappa=1e-3), weak_convexity=0.0))

# %%
# The report can be pasted into a paper. It is valid for these weights, this PSF and
# this size.

print(certificates["contracting"])

# %%
# An evaluation of the ridge model takes about a third of a second for 270 x 270 pixels
# on one core, and the time grows with the pixels. A solve here makes some 30
# evaluations, one to a small certified distance about 100.
# ``show_progress_bar=True``, an argument of every model, shows how far a solve is, and
# ``model(y, physics, init=restored)`` goes on from a result. Images with millions of
# pixels are the subject of
# :doc:`Volumes and large images </auto_how_to/volumes_and_large_images>`.
