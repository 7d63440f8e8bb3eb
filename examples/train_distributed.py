r"""Train a deblurring model on several processes, for example one for each GPU.

On one machine with four GPUs, or with four processes on a CPU::

    torchrun --nproc-per-node 4 examples/train_distributed.py --folder PHOTOS

On two machines, the same command on each of them, with the address of the first::

    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d \
        --rdzv-endpoint FIRST:29500 examples/train_distributed.py --folder PHOTOS

(This was run with one, two and four processes on one machine, on the CPU.)

Each process restores its share of a batch and has its own fixed points. The gradients
are averaged by ``DistributedDataParallel``. The crops and the noise of a step follow
from the seed and the number of the sample, so that any number of processes that divides
the batch makes the same training, up to rounding.

The first process writes a checkpoint from time to time and at the end. The same command
goes on from it, also with another number of processes. A checkpoint is written beside
the last one and takes its place when it is complete: a training that is killed, or a
disk that is full, leaves the last one as it was.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import deepinv as dinv
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torchvision.transforms import ToTensor
from tqdm import tqdm

import deepinv_equilibrium as deq

NOISE_LEVEL = 0.05
LARGEST_STEP_SIZE = 1.8  # of the blur, whose norm is 1


def build() -> deq.optim.PGD:
    """Return the model: ReTune with the small DRUNet."""
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(deq.models.SmallDRUNet()),
        stepsize=1.0,
        sigma_denoiser=NOISE_LEVEL,
        trainable_params=["stepsize", "sigma_denoiser"],
        DEQ=deq.ReTune(layers=5, restarts=4, on_failure="skip"),
    )


def load_photos(folder: Path | None, size: int) -> list[Tensor]:
    """Return the photos of a folder that are as large as a crop, or those of the
    package."""
    photos = (
        deq.datasets.Photos("train")
        if folder is None
        else dinv.datasets.ImageFolder(
            folder, transform=ToTensor(), use_dict_output=True
        )
    )
    images = (sample["x"] for sample in photos)
    return [x for x in images if min(x.shape[-2:]) >= size]


def crop(photos: list[Tensor], size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return a random crop and noise, both of which follow from the seed."""
    generator = torch.Generator().manual_seed(seed)
    photo = photos[int(torch.randint(len(photos), (), generator=generator))]
    top, left = (
        int(torch.randint(side - size + 1, (), generator=generator))
        for side in photo.shape[-2:]
    )
    x = photo[:, top : top + size, left : left + size]
    return x, NOISE_LEVEL * torch.randn(x.shape, generator=generator)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, which takes the place of the last one when it is complete."""
    new = path.with_suffix(".new")
    try:
        with new.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:  # the disk is full, for example
        new.unlink(missing_ok=True)
        print(
            f"no checkpoint was written, the last one is kept: {error}", file=sys.stderr
        )


def load(path: Path, parts: dict[str, Any], device: torch.device) -> int:
    """Load the parts of a checkpoint, and return the number of steps that it made."""
    if not path.exists():
        return 0
    # weights_only: a checkpoint from elsewhere cannot run code.
    state = torch.load(path, map_location=device, weights_only=True)
    missing = {*parts, "step"} - {*state}
    if missing:
        raise ValueError(f"{path} is no checkpoint of this training: no {missing}.")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])


def mean_over_processes(value: Tensor) -> float:
    """Return the mean of a number over all processes."""
    total = value.detach().clone()
    dist.all_reduce(total)
    return float(total) / dist.get_world_size()


def train(
    args: argparse.Namespace, after_step: Callable[[int], None] = lambda step: None
) -> None:
    """Train one process."""
    rank, count = dist.get_rank(), dist.get_world_size()
    if args.batch_size % count:
        raise ValueError(f"--batch-size {args.batch_size} is no multiple of {count}.")
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    physics = deq.physics.ChannelwiseBlur(device=device)
    model = build().to(device)
    parameters = {id(p) for p in model.params_algo.parameters()}
    weights = [p for p in model.parameters() if id(p) not in parameters]
    optimizer = torch.optim.Adam(
        [
            {"params": weights, "lr": args.rate},
            {"params": list(model.params_algo.parameters()), "lr": 1e-2},
        ]
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    first = load(args.checkpoint, parts, device)
    replica = DistributedDataParallel(model)
    photos = load_photos(args.folder, args.size)
    loss_function, psnr = dinv.loss.SupLoss(), dinv.metric.PSNR()
    share = range(rank, args.batch_size, count)
    model.train()
    steps = range(first, args.steps)
    with tqdm(steps, initial=first, total=args.steps, disable=rank > 0) as bar:
        for step in bar:
            seeds = (args.seed + step * args.batch_size + sample for sample in share)
            crops = [crop(photos, args.size, seed) for seed in seeds]
            x = torch.stack([x for x, _ in crops]).to(device)
            y = physics.A(x) + torch.stack([noise for _, noise in crops]).to(device)
            found = replica(y, physics)
            loss = loss_function(x_net=found, x=x, y=y, physics=physics, model=model)
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            scheduler.step()
            model.params_algo["stepsize"].clamp_(max=LARGEST_STEP_SIZE)
            made = step + 1
            if made % args.log_every == 0 or made == args.steps:
                mean = mean_over_processes(psnr(found.detach(), x).mean())
                bar.set_postfix(PSNR=f"{mean:.2f}")
            if rank == 0 and (made % args.save_every == 0 or made == args.steps):
                states = {name: part.state_dict() for name, part in parts.items()}
                save(args.checkpoint, {**states, "step": made})
            after_step(made)
    dist.barrier()  # the checkpoint is complete when a process returns


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the settings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="photos; default: the package's")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.pt"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=4, help="of all processes")
    parser.add_argument("--size", type=int, default=64, help="of a crop, in pixels")
    parser.add_argument("--rate", type=float, default=2e-5, help="of the weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=50)
    parser.add_argument("--log-every", type=int, default=10)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Join the other processes and train."""
    args = parse(arguments)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        train(args)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
