r"""Compare certified denoisers with total variation and with a DRUNet.

Every method receives the noise level times a strength. One strength for both
noise levels is chosen on the validation photo of
:class:`deepinv_equilibrium.datasets.Photos`. The methods denoise the test
photos, including the borders. The script prints the PSNR of each photo, and
the mean gain over total variation on the natural photos, without page, a scan
of text. The certified denoisers are also contracted about mid-grey, with the
same strength.

The DRUNet is deepinv's with so few channels that it has 5612 parameters in
grey; the certified denoisers have 301 and 612. It is trained by this script
on the same photos, for as long as the ridge regulariser (``--seconds``) and
with the same loss.

What ``python gallery/training/compare_denoisers.py --in-channels 1
--size 256 --seconds 160`` printed, in dB (DRUNet took 4960 steps)::

                  noisy     TV  ridge   pot. DRUNet
    chelsea 15    24.64  30.12  30.67  30.71  30.40
    chelsea 25    20.23  27.80  28.45  28.66  28.06
    retina 15     24.58  36.45  36.92  38.28  36.39
    retina 25     20.14  32.41  34.08  35.65  32.33
    coins 15      24.68  29.52  29.71  29.55  28.97
    coins 25      20.41  26.94  27.20  27.12  26.76
    moon 15       24.63  35.45  35.86  36.81  35.55
    moon 25       20.19  31.86  33.30  34.52  31.94
    page 15       24.67  28.57  28.86  28.60  28.00
    page 25       20.45  25.31  25.63  25.42  25.35
    over TV 15    -8.25  +0.00  +0.40  +0.95  -0.06
    over TV 25    -9.51  +0.00  +1.00  +1.74  +0.02

    contracted      .99    .95     .9    .99    .95     .9
    over TV 15    +0.40  +0.10  -0.72  +0.93  +0.56  -0.38
    over TV 25    +1.01  +0.91  +0.49  +1.73  +1.56  +1.02

The last lines are the gains over TV of the ridge denoiser and of the
convex-potential denoiser, contracted by .99, .95 and .9. The strengths are
chosen on the centre of a single, busy photo, and are too small for smooth
photos (retina, moon): TV got .6 sigma, the ridge denoiser .9 sigma. With .65
and 1 the ridge denoiser gains .62 and 1.26 dB; the smallest gains are .22 and
.21 dB, on coins.

In colour (``--in-channels 3 --size 160 --seconds 97``, with weights
1.1 times as large and .9 sigma; the DRUNet has 5756 parameters and took
2838 steps)::

                  noisy     TV  ridge   pot. DRUNet
    chelsea 15    24.69  29.84  32.03  32.07  31.38
    chelsea 25    20.33  27.40  29.77  29.82  27.99
    retina 15     24.64  35.34  39.81  39.26  33.02
    retina 25     20.41  31.16  38.26  36.57  28.99
    coins 15      24.68  29.65  32.51  32.39  30.06
    coins 25      20.44  26.82  29.61  29.52  27.48
    moon 15       24.63  34.56  38.43  38.10  33.17
    moon 25       20.19  30.73  36.62  35.64  28.78
    page 15       24.66  28.25  31.81  31.50  28.42
    page 25       20.38  24.86  28.25  28.05  26.19
    over TV 15    -7.69  +0.00  +3.35  +3.11  -0.44
    over TV 25    -8.69  +0.00  +4.54  +3.86  -0.72

    contracted      .99    .95     .9    .99    .95     .9
    over TV 15    +3.22  +1.40  -1.15  +3.00  +1.32  -1.17
    over TV 25    +4.45  +3.12  +1.07  +3.81  +2.78  +0.93

TV is deepinv's, which denoises the colours separately. Most of these gains
come from denoising the colours together, especially on coins, moon and page,
which are grey photos in three channels.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator

import torch
from deepinv.models import Denoiser, DRUNet, TVDenoiser
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader

from deepinv_equilibrium.datasets import Photos
from deepinv_equilibrium.models import ConvexPotentialDenoiser, RidgeProxDenoiser

Method = Callable[[Tensor, float], Tensor]

SIGMAS = (15 / 255, 25 / 255)
NATURAL = ("chelsea", "retina", "coins", "moon")  # page is a scan of text
CERTIFIED = ("ridge", "potential")
CONTRACTIONS = (0.99, 0.95, 0.9)
TV_STRENGTHS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.8)  # over sigma
STRENGTHS = (0.9, 1.0, 1.1)  # noise level that a network receives, over sigma
BATCH_SIZE = 8


class TinyDRUNet(Denoiser):
    """The DRUNet of deepinv with few channels and a few thousand weights."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.network = DRUNet(
            in_channels, in_channels, nc=(4, 4, 8, 8), nb=1, pretrained=None
        )

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Denoise images of any size, extended to a multiple of 8."""
        height, width = x.shape[-2:]
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
        level = level.expand(len(x), 1, height, width)
        padding = (0, -width % 8, 0, -height % 8)
        padded = pad(torch.cat((x, level), dim=1), padding, mode="replicate")
        return self.network.forward_unet(padded)[..., :height, :width]


@torch.enable_grad()
def train(denoiser: TinyDRUNet, channels: int, seconds: float, seed: int) -> int:
    """Train a network in place for a processor time; return the number of steps."""
    generator = torch.Generator().manual_seed(seed)
    crops = Photos("train", grey=channels == 1, img_size=64, crops=100_000, seed=seed)
    optimizer = torch.optim.Adam(denoiser.parameters(), 5e-3)
    start = time.process_time()
    step = 0
    for step, batch in enumerate(DataLoader(crops, BATCH_SIZE)):
        spent = (time.process_time() - start) / seconds
        if spent >= 1:
            return step
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 + math.cos(math.pi * spent)) / 2
        x = batch["x"].rot90(step % 4, dims=(2, 3))
        low, high = math.log(0.02), math.log(0.15)
        level = (low + (high - low) * torch.rand(len(x), generator=generator)).exp()
        noise = torch.randn(x.shape, generator=generator)
        denoised = denoiser(x + level[:, None, None, None] * noise, level)
        error = (denoised - x).square().mean(dim=(1, 2, 3))
        loss = (error / level**2 + 0.02).log().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def total_variation(strength: float) -> Method:
    """Return the converged proximal operator of total variation."""

    def denoise(y: Tensor, sigma: float) -> Tensor:
        return TVDenoiser(n_it_max=1000, crit=1e-6)(y, ths=strength * sigma)

    return denoise


def at_strength(denoiser: Denoiser, strength: float) -> Method:
    """Return a network that receives a scaled noise level."""
    return lambda y, sigma: denoiser(y, strength * sigma)


def samples(
    split: str, channels: int, size: int
) -> Iterator[tuple[str, float, Tensor, Tensor]]:
    """Yield the name, the noise level, the photo and the noisy photo."""
    photos = Photos(split, grey=channels == 1)
    for index, (name, sample) in enumerate(zip(photos.names, photos, strict=True)):
        x = sample["x"]
        height, width = (min(n, size) for n in x.shape[1:])
        top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
        x = x[None, :, top : top + height, left : left + width]
        for sigma in SIGMAS:
            generator = torch.Generator().manual_seed(index)
            yield name, sigma, x, x + sigma * torch.randn(x.shape, generator=generator)


def psnr(denoised: Tensor, x: Tensor) -> float:
    """Return the PSNR in decibels of an image, clipped to [0, 1]."""
    return -10 * (denoised.clamp(0, 1) - x).square().mean().log10().item()


def best(candidates: dict[float, Method], channels: int, size: int) -> Method:
    """Return the method whose strength is best on the validation photo."""
    photos = list(samples("validation", channels, size))
    scores = {
        strength: sum(psnr(method(y, sigma), x) for _, sigma, x, y in photos)
        for strength, method in candidates.items()
    }
    strength = max(scores, key=lambda key: scores[key])
    print(f"  strength {strength:g}: {scores[strength] / len(photos):.2f} dB")
    return candidates[strength]


@torch.no_grad()
def compare(channels: int, size: int, seconds: float, seed: int) -> None:
    """Print the PSNR of each method on each held-out photo."""
    torch.manual_seed(seed)
    unproved = TinyDRUNet(channels)
    steps = train(unproved, channels, seconds, seed)
    networks: dict[str, Denoiser] = {
        "ridge": RidgeProxDenoiser(channels, rtol=1e-5),
        "potential": ConvexPotentialDenoiser(channels),
        "DRUNet": unproved.eval(),
    }
    print(f"\n{'grey' if channels == 1 else 'colour'}, DRUNet of {steps} steps")
    methods: dict[str, Method] = {"noisy": lambda y, sigma: y}
    print("TV")
    methods["TV"] = best({s: total_variation(s) for s in TV_STRENGTHS}, channels, size)
    for name, network in networks.items():
        print(f"{name}, {sum(p.numel() for p in network.parameters())} parameters")
        candidates = {s: at_strength(network, s) for s in STRENGTHS}
        methods[name] = best(candidates, channels, size)

    columns = list(methods)
    columns += [f"{name} {c}" for name in CERTIFIED for c in CONTRACTIONS]
    print(f"\n{'photo':10s} 255s" + "".join(f"{name:>15s}" for name in columns))
    gains: dict[tuple[str, float], list[float]] = {}
    for photo, sigma, x, y in samples("test", channels, size):
        values = {}
        for name, method in methods.items():
            denoised = method(y, sigma)
            values[name] = psnr(denoised, x)
            for c in CONTRACTIONS if name in CERTIFIED else ():
                # Equal to the argument contraction=c of the denoisers.
                values[f"{name} {c}"] = psnr(0.5 + c * (denoised - 0.5), x)
        row = "".join(f"{values[name]:15.2f}" for name in columns)
        print(f"{photo:10s} {255 * sigma:4.0f}{row}", flush=True)
        if photo in NATURAL:
            for name in columns:
                gain = values[name] - values["TV"]
                gains.setdefault((name, sigma), []).append(gain)
    for sigma in SIGMAS:
        means = [sum(gains[name, sigma]) / len(NATURAL) for name in columns]
        row = "".join(f"{mean:+15.2f}" for mean in means)
        print(f"{'over TV':10s} {255 * sigma:4.0f}{row}")


def main() -> None:
    """Compare in grey and in colour."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in-channels", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--size", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for channels in args.in_channels:
        compare(channels, args.size, args.seconds, args.seed)


if __name__ == "__main__":
    main()
