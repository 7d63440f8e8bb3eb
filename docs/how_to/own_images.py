r"""
Train on your own images
========================

This page trains a model on a folder of grey images of several file types and
sizes, and restores a whole image. For your own images, set ``FOLDER``, leave
out the cell that writes example files, and adapt the function ``read``.
"""

import tempfile
import warnings
from pathlib import Path

import deepinv as dinv
import matplotlib.pyplot as plt
import numpy as np
import skimage.io
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import deepinv_equilibrium as deq

FOLDER = Path(tempfile.mkdtemp())  # replace it by the folder of your images
VALIDATION = {"camera"}  # subjects: the names of the files up to the first "_"
TEST = {"coins"}  # all other subjects are for training
WINDOW = 48  # side of the training images in pixels
BATCH, EPOCHS = 2, 2
NOISE_LEVEL = 0.03

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"

# %%
# Example files
# -------------
# Leave this cell out if you have files. It writes parts of photos as 8-bit
# PNG, 16-bit TIFF and ``.npy`` files, in different sizes.

photos: dict[str, np.ndarray] = {}
for split in ("train", "test"):
    dataset = deq.datasets.Photos(split, grey=True)
    for name, sample in zip(dataset.names, dataset, strict=True):
        photos[name] = sample["x"][0].numpy()
for name in ("astronaut", "coffee", "camera", "brick", "coins"):
    image = photos[name][40:160, 60:210]
    skimage.io.imsave(FOLDER / f"{name}_1.png", (255 * image).round().astype("uint8"))
    image = photos[name][100:220, 100:240]
    skimage.io.imsave(FOLDER / f"{name}_2.tif", (65535 * image).astype("uint16"))
    np.save(FOLDER / f"{name}_3.npy", photos[name][160:260, 20:180])

# %%
# Reading and scaling
# -------------------
# The denoisers of this package and of deepinv were trained on images in
# :math:`[0, 1]`, and noise levels are in the same unit. Divide by a number that
# is the same for all images, such as the largest value of the file type. If each
# image is divided by its own maximum, each gets another noise level.
#
# Other file types need other readers, which return arrays, too:
#
# .. code-block:: python
#
#    array = pydicom.dcmread(path).pixel_array         # one DICOM slice
#    array = nibabel.load(path).get_fdata()[:, :, 40]  # one slice of a NIfTI volume
#
# Divide arrays of floating-point numbers by a value that you know, for
# example the largest value that the instrument can return.


def read(path: Path) -> Tensor:
    """Return an image of shape (1, H, W), in float32 and in [0, 1]."""
    array = np.load(path) if path.suffix == ".npy" else skimage.io.imread(path)
    scale = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1.0
    image = torch.from_numpy(array.astype(np.float32) / np.float32(scale))
    if image.ndim != 2:
        raise ValueError(f"{path} has the shape {tuple(image.shape)}: it is not grey.")
    return image[None]


# %%
# Splitting by subject
# --------------------
# Images of one patient, specimen or scene resemble each other. They belong
# to the same split, so the split is made by name, and not by drawing images at
# random.

files: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
for path in sorted(FOLDER.iterdir()):
    subject = path.stem.split("_")[0]
    split = "validation" if subject in VALIDATION else "train"
    files["test" if subject in TEST else split].append(path)
for split, paths in files.items():
    print(f"{split:11s}", *(path.name for path in paths))

# %%
# A dataset of windows
# --------------------
# The images of a batch have one size. The dataset cuts a random window out of
# each training image, and the central one out of each validation image. A sample
# is a dictionary whose entry ``"x"`` is the image; deepinv announces that it will
# not accept a bare tensor any more. :class:`deepinv.Trainer` makes the measurements.


class Windows(Dataset[dict[str, Tensor]]):
    """Windows of images: random ones, or the central one of each image."""

    def __init__(self, paths: list[Path], size: int, *, random: bool) -> None:
        self.images = [read(path) for path in paths]
        self.size = size
        self.random = random

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = self.images[index]
        corner = []
        for side in image.shape[1:]:
            free = side - self.size
            draw = int(torch.randint(free + 1, ())) if self.random else free // 2
            corner.append(slice(draw, draw + self.size))
        return {"x": image[:, corner[0], corner[1]]}


training = DataLoader(
    Windows(files["train"], WINDOW, random=True), batch_size=BATCH, shuffle=True
)
validation = DataLoader(Windows(files["validation"], WINDOW, random=False))
x = next(iter(training))["x"]
print(tuple(x.shape), x.dtype, f"from {x.min():.2f} to {x.max():.2f}")

# %%
# Operator, model, training
# -------------------------
# A blur with the argument ``padding`` works for images of any size. The model is
# ``retune-pgd`` with shipped weights; :doc:`/user_guide/plugins` has the other
# names. The metric ``FinalResidual`` is the distance from a fixed point, see
# :doc:`/user_guide/training`. With ``save_path="runs"`` the trainer also writes
# checkpoints.

noise = dinv.physics.GaussianNoise(
    NOISE_LEVEL, rng=torch.Generator(device).manual_seed(0)
)
kernel = dinv.physics.functional.gaussian_blur(sigma=(1.5, 1.5))
physics = dinv.physics.Blur(kernel, padding="circular", noise_model=noise)
physics = physics.to(device)
model = deq.plugins.create(
    "reconstructors",
    "retune-pgd",
    denoiser=deq.models.SmallDRUNet(in_channels=1),
    layers=2,
    restarts=6,
    sigma_denoiser=NOISE_LEVEL,
).to(device)
trainer = dinv.Trainer(
    model,
    physics,
    torch.optim.Adam(model.parameters(), lr=1e-4),
    training,
    epochs=EPOCHS,
    losses=dinv.loss.SupLoss(),
    eval_dataloader=validation,
    metrics=[dinv.metric.PSNR(), deq.loss.FinalResidual()],
    online_measurements=True,  # y = physics(x), with new noise
    device=device,
    save_path=None,
    show_progress_bar=False,
    non_blocking_transfers=False,
)
model = trainer.train()

# %%
# A whole image
# -------------
# The trained model takes images of every size.

truth = read(files["test"][0])[None].to(device)
degraded = physics(truth)
with torch.no_grad():
    restored = model(degraded, physics)
print(tuple(restored.shape), model.solution, sep="\n")
psnr = dinv.metric.PSNR()
shown = {"truth": truth, "degraded": degraded, "restored": restored}
figure, panels = plt.subplots(1, 3, figsize=(9, 2.7), layout="constrained")
for axes, (name, image) in zip(panels, shown.items(), strict=True):
    axes.imshow(image[0, 0].cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    value = "" if name == "truth" else f", {psnr(image, truth).item():.2f} dB"
    axes.set_title(name + value)
    axes.axis("off")
figure.savefig("own_images.png", dpi=110)

# %%
# Mistakes that the package notices
# ---------------------------------
# A model checks the first measurement of each shape and dtype. The messages name
# the remedy.

x = next(iter(validation))["x"].to(device)
degraded = physics(x)
mistakes = {
    "values from 0 to 255": 255 * degraded,
    "8-bit integers": (255 * degraded).clamp(0, 255).byte(),
    "a NumPy array": degraded.cpu().numpy(),
    "float64": degraded.double(),
    "no batch axis": degraded[0],
    "no channel axis": degraded[0, 0],
    "three colours, a grey model": physics(x.expand(-1, 3, -1, -1)),
}
for name, y in mistakes.items():
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        try:
            model(y, physics)
            print(f"{name}: {caught[0].category.__name__}: {caught[0].message}\n")
        except (TypeError, ValueError) as error:
            print(f"{name}: {type(error).__name__}: {error}\n")
