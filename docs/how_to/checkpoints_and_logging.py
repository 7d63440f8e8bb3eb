r"""
Checkpoints, resume, early stopping and logging
===============================================

:class:`deepinv.Trainer` writes checkpoints, continues from them, and stops a
training that no longer improves. This page does so for an equilibrium model,
says what a checkpoint contains, and logs every epoch to a CSV file and to
TensorBoard. Replace ``samples`` by your images and measurements, and
``build`` by your model.
"""

import csv
from pathlib import Path

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq

SIZE = 24  # of the crops
EPOCHS = 4
FOLDER = Path("checkpoints_and_logging")  # everything is written here
device = "cuda" if torch.cuda.is_available() else "cpu"

# %%
# A model and its data
# --------------------
# The measurements are made once, so that each epoch sees the same ones.

torch.manual_seed(0)
physics = dinv.physics.BlurFFT(
    (1, SIZE, SIZE),
    filter=dinv.physics.functional.gaussian_blur(sigma=1.0),
    noise_model=dinv.physics.GaussianNoise(0.05),
    device=device,
)


def samples(split: str, count: int) -> list[dict[str, torch.Tensor]]:
    """Return images with their measurements."""
    photos = deq.datasets.Photos(split, grey=True, img_size=SIZE, crops=count)
    images = [sample["x"] for sample in photos]
    return [{"x": x, "y": physics(x[None].to(device))[0].cpu()} for x in images]


train_loader = DataLoader(samples("train", 8), batch_size=4)
eval_loader = DataLoader(samples("test", 4), batch_size=4)


def build() -> deq.optim.PGD:
    """Return a model whose step contracts, with a denoiser that is learned."""
    denoiser = deq.plugins.create(
        "denoisers", "convex-potential", in_channels=1, contraction=0.9
    )
    return deq.plugins.create(
        "reconstructors", "certified-deq-pgd", denoiser=denoiser
    ).to(device)


# %%
# A log of every epoch
# --------------------
# The ``Trainer`` gives the averages of each epoch to its method
# ``log_metrics_mlops``, which sends them to Weights & Biases or MLflow. A
# subclass can write them anywhere. This one appends lines to a CSV file, and
# writes a log for TensorBoard if the package ``tensorboard`` is installed.
#
# The other method is for early stopping in a training that is resumed. deepinv
# compares the number of the epoch with a history of evaluations that starts anew,
# and would stop at the first evaluation after a long training.

FOLDER.mkdir(exist_ok=True)
try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError:
    board = None
else:
    board = SummaryWriter(str(FOLDER / "tensorboard"))


class LoggingTrainer(dinv.Trainer):
    """A trainer that appends the averages of each epoch to a file."""

    def log_metrics_mlops(self, logs: dict, step: int, train: bool = True) -> None:
        """Log the averages of the training or of the evaluation of an epoch."""
        super().log_metrics_mlops(logs, step, train)
        phase = "train" if train else "eval"
        values = {name: float(value) for name, value in logs.items() if name != "step"}
        with open(FOLDER / "log.csv", "a", newline="") as file:
            csv.writer(file).writerows((step, phase, *item) for item in values.items())
        if board is not None:
            for name, value in values.items():
                board.add_scalar(f"{phase}/{name}", value, step)

    def stop_criterion(self, epoch: int, train_ite: int, **options: object) -> bool:
        """Count the epochs from the first one of this history."""
        return super().stop_criterion(epoch - self.epoch_start, train_ite, **options)


# %%
# The first metric decides which epoch is the best one, and when to stop.
# :class:`Converged <deepinv_equilibrium.loss.Converged>` and
# :class:`FinalResidual <deepinv_equilibrium.loss.FinalResidual>` follow the
# solves: their averages are the fraction of the samples that converged, and
# the mean residual.


def train(model: deq.optim.PGD, folder: str, **options: object) -> dinv.Trainer:
    """Train a model, and return the trainer."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    metrics = [dinv.metric.PSNR(), deq.loss.Converged(), deq.loss.FinalResidual()]
    settings = {"epochs": EPOCHS, "save_path": FOLDER / folder, **options}
    trainer = LoggingTrainer(
        model,
        physics,
        optimizer,
        train_loader,
        eval_dataloader=eval_loader,
        scheduler=torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5),
        losses=dinv.loss.SupLoss(),
        metrics=metrics,
        device=device,
        show_progress_bar=False,
        verbose=False,
        non_blocking_transfers=False,
        **settings,
    )
    trainer.train()
    return trainer


log = FOLDER / "log.csv"
log.unlink(missing_ok=True)
whole = train(build(), "whole", ckp_interval=1)
if board is not None:
    board.close()
print(*log.read_text().splitlines()[:7], sep="\n")

# %%
# ``tensorboard --logdir checkpoints_and_logging/tensorboard`` shows the
# curves in a browser. For Weights & Biases no subclass is needed: install
# ``wandb`` and give the ``Trainer`` ``wandb_vis=True`` and
# ``wandb_setup={"project": "deblurring", "mode": "offline"}``, which are the
# arguments of ``wandb.init``. This page does not run it.
#
# The shipped denoiser was trained on many more photos than these crops. The
# loss falls, while the restorations of other photos become slightly worse:

rows = [line.split(",") for line in log.read_text().splitlines()]
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for axis, phase, name in (
    (axes[0], "train", "TotalLoss"),
    (axes[1], "eval", "PSNR"),
):
    curve = [float(row[3]) for row in rows if row[1:3] == [phase, name]]
    axis.plot(curve, "o-")
    axis.set(xlabel="epoch", title=f"{phase}: {name}", xticks=range(EPOCHS))
figure.savefig(FOLDER / "curves.png", dpi=110)

# %%
# Checkpoints
# -----------
# A training writes to a new folder in ``save_path``, whose name is the time in
# seconds. Trainings that start in the same second need different values of
# ``save_path``. ``ckp_interval=n`` writes the epochs ``n``, ``2 n``, ... and
# the last one, counted from 0, but not the epoch 0. With an
# ``eval_dataloader`` the best epoch so far is written, too.

folder = Path(whole.save_path)
print(sorted(path.name for path in folder.iterdir()))
state = torch.load(folder / f"ckp_{EPOCHS - 1}.pth.tar", weights_only=False)
print(list(state))
print("sigma:", float(state["state_dict"]["params_algo.g_param.0"]))

# %%
# A checkpoint contains the weights, the states of the optimiser and of the
# learning rate's scheduler, and the history of this training. Parameters of
# the algorithm, here the noise level of the denoiser, are learned as
# logarithms, see :doc:`/user_guide/training`; a checkpoint contains their
# values.
#
# It does not contain the solver, its tolerance and the adjoint, which are
# arguments of the model; :doc:`save_load_export` stores them as well. A
# :class:`FixedPointCache <deepinv_equilibrium.equilibrium.FixedPointCache>`
# of warm starts has a ``state_dict`` of its own.
#
# The ``Trainer`` loads checkpoints with ``weights_only=False``, which runs
# code that a file may contain. Load only files that you trust.
#
# Resume
# ------
# Build the same model, optimiser and scheduler, and give the file as
# ``ckpt_pretrained``. ``epochs`` counts the epochs before the interruption,
# too. A checkpoint has no states of random number generators: random crops, a
# shuffled order and new noise differ from those of an uninterrupted training.
# Here nothing is random: a training that goes on from the second epoch repeats
# the last epochs of the one above, up to rounding.

resumed = train(build(), "resumed", ckpt_pretrained=folder / "ckp_1.pth.tar")
weights = [trainer.model.state_dict().values() for trainer in (resumed, whole)]
changes = [float((a - b).abs().max()) for a, b in zip(*weights, strict=True)]
print(f"first epoch: {resumed.epoch_start}, largest difference: {max(changes):.1e}")

# %%
# Early stopping
# --------------
# ``early_stop=n`` stops when the first metric has not improved for more than
# ``n`` evaluations. ``load_best_model`` then returns to the weights of the
# best epoch, because the model has those of the last one.

early = train(build(), "early", early_stop=1)
history = early.eval_metrics_history["PSNR"]
print("PSNR of the evaluations:", *(f"{value:.2f}" for value in history))
best = early.load_best_model()
psnr = dinv.metric.PSNR()
with torch.no_grad():
    values = [
        psnr(best(batch["y"].to(device), physics), batch["x"].to(device))
        for batch in eval_loader
    ]
print(f"PSNR of the best model:  {torch.cat(values).mean():.2f}")

# %%
# A training can also stop at the first sample that does not converge: with
# ``on_failure="raise"`` the model raises a :class:`ConvergenceError
# <deepinv_equilibrium.ConvergenceError>`, and the last checkpoint remains.
# :doc:`no_convergence` has the remedies.
