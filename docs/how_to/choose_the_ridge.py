r"""
Choose the ridge of a certified restoration
===========================================

A blur loses frequencies, or nearly loses them, so least squares are flat in some
directions, and a convex regulariser may be flat there, too: gradient descent converges,
at a rate that is 1 or so near to 1 that it says nothing. A ridge
:math:`\tfrac{\kappa}{2}\|x\|^2` makes the energy strongly convex. Then the model
contracts, the restored image depends on the measurement with a known constant, and the
distance of any image to the exact solution can be computed. In return the image moves
towards zero. This page shows the price for several :math:`\kappa`, and how to choose
one for your images.
"""

import deepinv as dinv
import matplotlib.pyplot as plt
import torch

import deepinv_equilibrium as deq

NOISE_LEVEL = 0.03
KAPPAS = [1e-4, 1e-3, 1e-2, 3e-2, 1e-1]
# The regularisers for much noise are better for deblurring.
REGULARISER_SIGMA = min(8 * NOISE_LEVEL, 0.15)

device = "cuda" if torch.cuda.is_available() else "cpu"

# %%
# The measurement
# ---------------
# The example is a part of a photo behind a Gaussian blur. Take one of your own images
# that is sharp, blur it, and add noise as your instrument does.

kernel = dinv.physics.functional.gaussian_blur(sigma=1.6).to(device)
noise = dinv.physics.GaussianNoise(
    NOISE_LEVEL, rng=torch.Generator(device).manual_seed(0)
)
camera = deq.datasets.Photos("train", grey=True)[5]["x"]
truth = camera[None, :, 60:156, 190:286].to(device)
physics = dinv.physics.BlurFFT(
    tuple(truth.shape[1:]), kernel, noise_model=noise, device=device
)
y = physics(truth)

# %%
# The model
# ---------
# Gradient descent on
#
# .. math::
#
#     \frac12 \|Ax - y\|^2 + \frac{\kappa}{2} \|x - m\|^2 + \lambda R_\sigma(x)
#
# with the bundled convex regulariser :math:`R_\sigma`. The ridge pulls towards zero;
# the mean brightness :math:`m` of an image is far from zero, so the mean is subtracted
# from the measurement and added to the result. A constant image stays constant under
# the blur, and the regulariser does not see it. ``stepsize="auto"`` keeps to the
# interval for which the rate is proved.

mean = y.mean()


# The preset ``certified-ridge-gd`` makes the same model; here the parts are shown.


def model_with(data_fidelity: dinv.optim.DataFidelity) -> deq.optim.GD:
    """Return the model with a data fidelity."""
    return deq.optim.GD(
        data_fidelity=data_fidelity,
        prior=deq.models.RidgeRegulariser(in_channels=1),
        stepsize="auto",
        lambda_reg=(NOISE_LEVEL / REGULARISER_SIGMA) ** 2,
        sigma_denoiser=REGULARISER_SIGMA,
        DEQ=deq.Equilibrium(deq.Anderson(rtol=1e-6, max_iter=1000)),
    ).to(device)


# %%
# The price of a rate
# -------------------
# *Rate* bounds how much one iteration brings two images together, *stability* how much
# more the restored image changes than the measurement, and *distance* how far the
# restored image of this solve is from the exact solution, in grey values of 255 as a
# root mean square. All three are proved.

psnr = dinv.metric.PSNR()
img_size = tuple(truth.shape[1:])
stabilities, values = [], []
print("kappa    rate       stability  distance  PSNR")
for kappa in KAPPAS:
    model = model_with(deq.optim.RidgeL2(kappa=kappa))
    with torch.no_grad():
        restored = model(y - mean, physics)
    certificate = deq.certify(model, physics, img_size)
    (distance,) = certificate.distance(model, y - mean, physics, restored)
    grey_values = 255 * distance.value / truth.numel() ** 0.5
    stabilities.append(certificate.stability.value)
    values.append(psnr(restored + mean, truth).item())
    print(
        f"{kappa:<8g} {certificate.rate.value:.6f}   {stabilities[-1]:<9.4g}  "
        f"{grey_values:<8.2g}  {values[-1]:.2f} dB"
    )

# %%
# Without a ridge, the curvature of the energy is the smallest eigenvalue of
# :math:`A^\top A`:

plain = model_with(dinv.optim.L2())
with torch.no_grad():
    without = psnr(plain(y - mean, physics) + mean, truth).item()
certificate = deq.certify(plain, physics, img_size)
slowness = 1 - certificate.rate.value
print(f"{certificate.convergence}, 1 - rate = {slowness:.1e}: {without:.2f} dB")

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
axes.semilogx(KAPPAS, values, "o-", label="PSNR")
axes.axhline(without, linestyle=":", color="grey", label="without a ridge")
axes.set_xlabel(r"$\kappa$")
axes.set_ylabel("PSNR (dB)")
constants = axes.twinx()
constants.loglog(KAPPAS, stabilities, "s--", color="C1", label="stability")
constants.set_ylabel("proved stability")
figure.legend(loc="outside upper center", ncols=3)
figure.savefig("choose_the_ridge.png", dpi=110)

# %%
# Choose the largest :math:`\kappa` whose loss of PSNR you accept on images of your own
# kind. Without a sharp image, see how far the restored image moves from that without a
# ridge, on a part of the image: the rate depends on the operator, :math:`\kappa` and
# :math:`\lambda`, and not on the size. With ``padding="valid"`` look at the inner part
# only: at the border, which nothing was measured of, the ridge pulls to the mean.
#
# A solver that is to end within a distance takes it as a tolerance:
# ``deq.Anderson(rtol=0.0, atol=certificate.tolerance(distance))``.
# :doc:`own_point_spread_function` has the steps for a PSF and a noise level of
# your own, and :doc:`certificate_in_a_paper` writes the certificate down.

accepted = [k for k, v in zip(KAPPAS, values, strict=True) if v > without - 0.05]
print("within .05 dB of the model without a ridge: kappa up to", max(accepted))
