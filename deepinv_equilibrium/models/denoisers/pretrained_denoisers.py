"""DRUNet and GSDRUNet of deepinv with their pretrained weights."""

from __future__ import annotations

import torch
from deepinv.models import DRUNet, GSDRUNet
from deepinv.models.GSPnP import GSPnP


def pretrained_drunet(
    in_channels: int = 3, device: torch.device | str | None = None
) -> DRUNet:
    r"""
    Return deepinv's DRUNet with its pretrained weights, which are downloaded once.

    The network has 32.6 million parameters.
    :class:`deepinv_equilibrium.models.SmallDRUNet` is small and needs no download.

    :param int in_channels: 3 for colour images, 1 for grey ones.
    :param torch.device, str device: device of the network.
    :return: (:class:`deepinv.models.DRUNet`) the denoiser, in eval mode.
    :raises ValueError: if ``in_channels`` is neither 1 nor 3.
    :raises deepinv.utils.DownloadError: if the weights are not in the cache of torch
        and cannot be downloaded.
    """
    _require_grey_or_colour("DRUNet", in_channels)
    return DRUNet(in_channels, in_channels, pretrained="download", device=device)


def gradient_step_drunet(
    in_channels: int = 3, device: torch.device | str = "cpu"
) -> GSPnP:
    r"""
    Return deepinv's gradient-step DRUNet :footcite:p:`hurault2022gradient` with its
    pretrained weights, which are downloaded once.

    The denoiser is :math:`D_\sigma(x) = x - \nabla g_\sigma(x)` with
    :math:`g_\sigma(x) = \frac{1}{2} \|x - N_\sigma(x)\|^2`.
    :class:`GradientStepPGD <deepinv_equilibrium.optim.GradientStepPGD>` minimises the
    energy with this :math:`g_\sigma`. We set ``detach`` to ``False``, because with
    deepinv's default autograd does not return the derivative of :math:`D_\sigma`.

    :param int in_channels: 3 for colour images, 1 for grey ones.
    :param torch.device, str device: device of the network.
    :return: (:class:`deepinv.models.GSPnP.GSPnP`) the denoiser, in eval mode.
    :raises ValueError: if ``in_channels`` is neither 1 nor 3.
    :raises deepinv.utils.DownloadError: if the weights are not in the cache of torch
        and cannot be downloaded.
    """
    _require_grey_or_colour("GSDRUNet", in_channels)
    denoiser = GSDRUNet(
        in_channels=in_channels,
        out_channels=in_channels,
        pretrained="download",
        device=device,
    )
    denoiser.detach = False
    return denoiser.to(device)


def _require_grey_or_colour(name: str, in_channels: int) -> None:
    if in_channels not in (1, 3):
        raise ValueError(
            "in_channels must be 1 (grey) or 3 (colour): deepinv has no other weights "
            f"for {name}, got {in_channels}."
        )
