r"""
Volumes and large images
========================

The page restores a volume, measures that the memory of a training does not
grow with the number of iterations, and denoises an image tile by tile inside a
model. The last section has a table of time and memory for images of 1024 x
1024 pixels. Replace ``volume`` and ``photo`` by your data.
"""

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from deepinv.distributed import DistributedContext, distribute
from torch import Tensor

import deepinv_equilibrium as deq

SIDE = 24  # voxels along each axis of the volume
PIXELS = 112  # along each axis of the photo
ITERATIONS = (16, 64, 256)  # for the measurement of the memory
device = "cuda" if torch.cuda.is_available() else "cpu"

# %%
# A volume
# --------
# A volume has the shape :math:`(B, C, D, H, W)`. Two priors of this package
# take volumes:
#
# - total variation, with a weight for each axis, each voxel, or the whole
#   volume, see :doc:`/user_guide/tv_maps`,
# - ``RidgeRegulariser(dim=3, pretrained=None)``, a learned convex regulariser.
#   No weights for volumes are bundled.
#
# The other bundled denoisers are for images. A denoiser of your own may take
# any shape, and deepinv has ``DRUNet(dim=3)``.

grid = torch.linspace(-1, 1, SIDE, device=device)
squares = torch.stack(torch.meshgrid(grid, grid, grid, indexing="ij")) ** 2
volume = torch.zeros(1, 1, SIDE, SIDE, SIDE, device=device)
for value, radii in ((0.4, (0.9, 0.7, 0.8)), (0.4, (0.5, 0.3, 0.4))):
    scaled = squares / torch.tensor(radii, device=device).square().view(3, 1, 1, 1)
    volume += value * (scaled.sum(0) < 1)
noise = dinv.physics.GaussianNoise(0.2, rng=torch.Generator(device).manual_seed(0))
denoising = dinv.physics.Denoising(noise)
noisy = denoising(volume)

tv = deq.plugins.create(
    "reconstructors",
    "tv-map",
    constant=True,  # one weight for each direction, which can be trained
    directions=(0, 0, 0),  # the same weight for all three axes
    initial_weight=0.2,
    max_iter=100,
).to(device)
with torch.no_grad():
    restored = tv(noisy, denoising)
psnr = dinv.metric.PSNR()
print(f"noisy           {psnr(noisy, volume).item():.2f} dB")
print(f"total variation {psnr(restored, volume).item():.2f} dB")

figure, axes = plt.subplots(1, 3, figsize=(8, 3), layout="constrained")
images = {"truth": volume, "noisy": noisy, "total variation": restored}
for axis, (name, image) in zip(axes, images.items(), strict=True):
    axis.imshow(image[0, 0, SIDE // 2].numpy(force=True), cmap="gray", vmin=0, vmax=1)
    axis.set_title(name)
    axis.set_axis_off()
figure.savefig("volume.png", dpi=110)

# %%
# A certificate of a model for volumes is made like one for images, with
# ``img_size=(channels, depth, height, width)``. Gradient descent with the
# convex regulariser contracts with any weights, also in training:

ridge = deq.optim.GD(
    data_fidelity=dinv.optim.L2(),
    prior=deq.models.RidgeRegulariser(dim=3, pretrained=None, generators=4),
    stepsize="auto",
    g_param=0.2,
    lambda_reg=1.0,
    trainable_params=["stepsize", "lambda_reg"],
    DEQ=deq.Equilibrium(deq.Anderson()),
).to(device)
certificate = deq.certify(ridge, denoising, img_size=(1, SIDE, SIDE, SIDE))
print(certificate.rate)

# %%
# Memory of a training
# --------------------
# Backpropagation through the iterations records every one of them. ReTune
# records one block, and the other adjoints one step, so that the memory does
# not depend on the number of iterations. The following counts the bytes that
# autograd keeps for the backward pass.


def recorded(model: deq.equilibrium.EquilibriumModel) -> float:
    """Return the MiB that a call of a model keeps for its backward pass."""
    storages = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(noisy, denoising).sum()
    return sum(storages.values()) / 2**20


def settings(count: int) -> dict[str, deq.Equilibrium]:
    """Return configurations that make as many iterations."""
    solver = deq.Picard(max_iter=count, rtol=0.0)
    return {
        "Unrolled": deq.Equilibrium(solver, deq.Unrolled()),
        "ReTune, 8 layers": deq.ReTune(layers=8, restarts=count // 8),
        "JacobianFree": deq.Equilibrium(solver, deq.JacobianFree()),
        "Implicit": deq.Equilibrium(solver, deq.Implicit()),
    }


print("iterations      ", *(f"{count:>7d}" for count in ITERATIONS))
for name in settings(8):
    sizes = []
    for count in ITERATIONS:
        tv.DEQ = settings(count)[name]
        sizes.append(recorded(tv))
    print(f"{name:16s}", *(f"{size:7.1f}" for size in sizes), "MiB")

# %%
# Anderson acceleration keeps ``2 * history_size`` states besides:
# :class:`Inertial <deepinv_equilibrium.Inertial>` accelerates with one, see
# :doc:`/user_guide/solvers`.
#
# Tiles
# -----
# If one evaluation of the denoiser needs too much memory, let deepinv apply it
# tile by tile. ``distribute`` works in a single process, too. With
# ``max_batch_size=1`` one tile is denoised at a time, and in a training each
# tile is computed again in the backward pass. The solver, the physics and the
# adjoint see whole images.

SIGMA = 0.05
photo = deq.datasets.Photos("test", grey=True, img_size=PIXELS)[0]["x"][None].to(device)
blur = dinv.physics.BlurFFT(
    (1, PIXELS, PIXELS),
    filter=dinv.physics.functional.gaussian_blur(sigma=1.0),
    noise_model=dinv.physics.GaussianNoise(SIGMA, rng=noise.rng),
    device=device,
)
y = blur(photo)
denoiser = deq.models.ConvexPotentialDenoiser(1, contraction=0.9).to(device)


def restore(part: torch.nn.Module) -> Tensor:
    """Restore the photo by plug-and-play with a denoiser."""
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(part),
        stepsize=1.0,
        sigma_denoiser=SIGMA,
        trainable_params=[],
        DEQ=deq.Equilibrium(deq.Anderson()),
    )
    with torch.no_grad():
        return model(y, blur)


whole = restore(denoiser)
print(f"whole images: {psnr(whole, photo).item():.2f} dB")
with DistributedContext(device_mode=device) as context:
    for overlap in (2, 16):
        tiles = distribute(
            denoiser,
            context,
            type_object="denoiser",
            patch_size=64,
            overlap=overlap,
            tiling_dims=(-2, -1),
            max_batch_size=1,
        )
        tiled = restore(tiles)
        change = (tiled - whole).abs()[0, 0]
        inside = change[32:-32, 32:-32].max().item()
        print(
            f"overlap {overlap:2d}: {psnr(tiled, photo).item():.2f} dB, largest change "
            f"{inside:.0e} in the middle, {change.max().item():.0e} anywhere"
        )

# %%
# Up to the tolerance of the solve, tiles give the image of the whole denoiser
# if the overlap is at least the radius of its receptive field, except near the
# border of the image, which deepinv extends by reflection. With tiles the
# step is another map: the certificate of the model without tiles does not hold
# for it, and ``certify`` proves nothing of it.
# :doc:`/user_guide/several_processes` gives the tiles to several GPUs.
#
# Time and memory
# ---------------
# The following was measured on one core of a CPU. ``python -m
# tests.benchmarks.large_images`` measures it on another machine.
#
# .. include:: /large_images_table.txt
