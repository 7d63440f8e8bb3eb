r"""
Poisson and Poisson-Gaussian noise
==================================

A detector that counts photons and adds read-out noise returns

.. math::

    y = \gamma\, \mathcal{P}(A x / \gamma) + \mathcal{N}(0, \sigma^2), \qquad
    \operatorname{var}(y) = \gamma A x + \sigma^2,

with the gain :math:`\gamma`. The noise is stronger where the image is brighter, so
least squares is not the likelihood. This page restores such images in three ways and
prints what is proved of each:

- without a blur: a transform that makes the variance constant, and a model for
  Gaussian noise,
- with a blur: least squares with weights, and a model for Gaussian noise,
- with a blur: the Poisson likelihood, minimised by mirror descent.

For your own data, replace ``GAIN``, ``READ_OUT`` and the measurements.
"""

import warnings

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

import deepinv_equilibrium as deq

GAIN = 1 / 60  # 60 photons in a white pixel; 0 < GAIN
READ_OUT = 0.02  # standard deviation of the read-out noise, in units of the image

device = "cuda" if torch.cuda.is_available() else "cpu"
psnr = dinv.metric.PSNR()
camera = deq.datasets.Photos("train", grey=True)[5]["x"]
truth = camera[None, :, 92:156, 228:292].to(device)
noise = dinv.physics.PoissonGaussianNoise(
    GAIN, READ_OUT, rng=torch.Generator(device).manual_seed(0)
)


def ridge(noise_level: float, regulariser_level: float) -> deq.optim.GD:
    """Return a model for white Gaussian noise that minimises a convex energy."""
    return deq.optim.GD(
        data_fidelity=dinv.optim.L2(),
        prior=deq.models.RidgeRegulariser(in_channels=1),
        stepsize="auto",
        lambda_reg=(noise_level / regulariser_level) ** 2,
        sigma_denoiser=regulariser_level,
        DEQ=deq.Equilibrium(deq.Anderson(rtol=3e-4)),
    ).to(device)


# %%
# Without a blur: stabilise the variance
# --------------------------------------
# The generalised Anscombe transform :footcite:p:`makitalo2013optimal`
#
# .. math::
#
#     z = \tfrac{2}{\gamma} \sqrt{\gamma y + \tfrac38 \gamma^2 + \sigma^2}
#
# has noise of a standard deviation close to 1, if there are more than a few photons
# in each pixel. Scaled to :math:`[0, 1]` it is an image with white noise. The
# asymptotically unbiased inverse, and not the algebraic one, returns the image.


def stabilise(y: Tensor) -> Tensor:
    """Apply the generalised Anscombe transform."""
    return 2 / GAIN * (GAIN * y + 3 / 8 * GAIN**2 + READ_OUT**2).clamp(min=0).sqrt()


def invert(z: Tensor) -> Tensor:
    """Apply its asymptotically unbiased inverse."""
    return GAIN * (z.square() / 4 - 1 / 8) - READ_OUT**2 / GAIN


def deviation(error: Tensor) -> str:
    """Return the standard deviations in dark and in bright pixels."""
    return f"{error[truth < 0.2].std():.3f} dark, {error[truth > 0.6].std():.3f} bright"


y = dinv.physics.Denoising(noise)(truth)
print("noise of y:", deviation(y - truth))
print("noise of z:", deviation(stabilise(y) - stabilise(truth)))

scale = stabilise(y).max()
level = 1 / scale.item()
white = dinv.physics.Denoising(dinv.physics.GaussianNoise(level))
stabilised = ridge(level, regulariser_level=level)
mean_level = (GAIN * y.mean() + READ_OUT**2).sqrt().item()
with torch.no_grad():
    unstable = ridge(mean_level, mean_level)(y, white)
    restored = invert(scale * stabilised(stabilise(y) / scale, white))
print(f"noisy                {psnr(y, truth).item():.2f} dB")
print(f"one noise level      {psnr(unstable, truth).item():.2f} dB")
print(f"variance stabilised  {psnr(restored, truth).item():.2f} dB")

# %%
# The model contracts, because the data fidelity has the curvature 1. So there is one
# restored image :math:`z` and a rate. The proof is about the model. That the noise of
# :math:`z` is white and Gaussian is an approximation.

certificate = deq.certify(stabilised, white, tuple(truth.shape[1:]))
print(certificate.convergence, certificate.rate)

# %%
# With a blur: weights
# --------------------
# The transform does not commute with a blur. With a blur, the variance itself is
# estimated, from the smoothed measurement. The measurement and the operator are
# multiplied by the weights
#
# .. math::
#
#     w = s_{\min} / s, \qquad s^2 = \gamma\, (G * y) + \sigma^2 .
#
# The noise of :math:`w y` then has the standard deviation :math:`s_{\min}`
# everywhere. The weights are fixed for a measurement, so :math:`w A` is a linear
# operator with :math:`\|w A\| \leq 1`, and all models and certificates for Gaussian
# noise apply.

kernel = dinv.physics.functional.gaussian_blur(sigma=(1.2, 1.2))
physics = dinv.physics.Blur(kernel, padding="valid", noise_model=noise, device=device)
y = physics(truth)
half = kernel.shape[-1] // 2
inner = truth[..., half:-half, half:-half]  # what the measurement shows

smooth = torch.from_numpy(gaussian_filter(y[0, 0].cpu().numpy(), sigma=2.0))
s = (GAIN * smooth.clamp(min=0) + READ_OUT**2).sqrt()[None].to(device)
weights = s.min() / s
# Gradient descent needs no proximal operator, which deepinv warns of here.
warnings.filterwarnings("ignore", message="At least one input physics is a Decomp")
weighting = dinv.physics.Inpainting(tuple(y.shape[1:]), mask=weights, device=device)
weighted = weighting * physics

REGULARISER_LEVEL = 0.15  # the largest level that the weights were trained for
models = {"weights": ridge(s.min().item(), REGULARISER_LEVEL)}
shown = {"truth": inner, "measured": y}
with torch.no_grad():
    shown["weights"] = models["weights"](weights * y, weighted)
certificate = deq.certify(models["weights"], weighted, tuple(truth.shape[1:]))
print(certificate.convergence, certificate.rate)
print("curvature of the energy", certificate.energy.convexity)

# %%
# The blur loses frequencies, so that the iteration converges to a minimiser of the
# energy without a rate. See
# :doc:`/auto_how_to/own_point_spread_function` for other models and what they prove.
#
# With a blur: mirror descent
# ---------------------------
# The shifted measurement :math:`y + \sigma^2 / \gamma` has the mean and the variance of
# Poisson noise with the background :math:`b = \sigma^2 / \gamma`. Its likelihood,
# :class:`~deepinv_equilibrium.optim.KullbackLeibler`, is minimised by
# :class:`~deepinv_equilibrium.optim.PoissonMirrorDescent`. Without read-out noise
# the background is 0, and the likelihood is exact. With ``lambda_reg`` as below, the
# regulariser has the same weight as above.

background = READ_OUT**2 / GAIN
models["mirror descent"] = deq.optim.PoissonMirrorDescent(
    deq.models.RidgeRegulariser(in_channels=1),
    g_param=REGULARISER_LEVEL,
    lambda_reg=1 / REGULARISER_LEVEL**2,
    data_fidelity=deq.optim.KullbackLeibler(gain=GAIN, background=background),
    rtol=5e-4,
).to(device)
with torch.no_grad():
    shown["mirror descent"] = models["mirror descent"](
        (y + background).clamp(min=0), physics
    )
print(models["mirror descent"].solution)

# %%
# No contraction is proved, because the gradient of the likelihood is not Lipschitz
# continuous near 0. What holds is checked in each step: the energy decreases.
# Here the energy is convex. Mirror descent needs many steps; a smaller ``rtol`` brings
# the image closer to the minimiser.
# :doc:`/auto_gallery/deblurring/poisson_mirror_descent` trains networks as the
# regulariser.
#
# Results
# -------
figure, panels = plt.subplots(1, 4, figsize=(10, 2.7), layout="constrained")
for axes, (name, image) in zip(panels, shown.items(), strict=True):
    if image.shape == truth.shape:
        image = image[..., half:-half, half:-half]
    axes.imshow(image[0, 0].cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    if name != "truth":
        value = psnr(image, inner).item()
        print(f"{name:15s}{value:.2f} dB")
        name = f"{name}, {value:.2f} dB"
    axes.set_title(name)
    axes.axis("off")
figure.savefig("poisson_gaussian_noise.png", dpi=110)

# %%
# .. footbibliography::
