"""deepinv's DRUNet with the weights that its authors trained."""

from __future__ import annotations

import torch
from deepinv.models import DRUNet, GSDRUNet
from deepinv.models.GSPnP import GSPnP


def pretrained_drunet(
    in_channels: int = 3, device: torch.device | str | None = None
) -> DRUNet:
    r"""
    Return deepinv's DRUNet with its pretrained weights, which are downloaded once.

    It has 32.6 million parameters. For a small network that needs no download, see
    :class:`deepinv_equilibrium.models.SmallDRUNet`.

    :param int in_channels: 3 for colour images, 1 for grey ones.
    :param torch.device, str device: device of the network.
    :return: (:class:`deepinv.models.DRUNet`) the denoiser, in eval mode.
    :raises ValueError: for another number of channels.
    :raises deepinv.utils.DownloadError: if the weights are not here and cannot be
        downloaded.
    """
    if in_channels not in (1, 3):
        raise ValueError(
            "in_channels must be 1 (grey) or 3 (colour): deepinv has no other weights "
            f"for DRUNet, got {in_channels}."
        )
    return DRUNet(in_channels, in_channels, pretrained="download", device=device)


def gradient_step_drunet(
    in_channels: int = 3, device: torch.device | str = "cpu"
) -> GSPnP:
    r"""
    Return deepinv's gradient-step DRUNet :footcite:p:`hurault2022gradient` with its
    pretrained weights, which are downloaded once.

    It is :math:`D_\sigma(x) = x - \nabla g_\sigma(x)` with
    :math:`g_\sigma(x) = \frac{1}{2} \|x - N_\sigma(x)\|^2`, whose energy
    :class:`GradientStepPGD <deepinv_equilibrium.optim.GradientStepPGD>` minimises. Its
    ``detach`` is ``False``: deepinv's default makes the derivative of its output
    another than that of its values.

    :param int in_channels: 3 for colour images, 1 for grey ones.
    :param torch.device, str device: device of the network.
    :return: (:class:`deepinv.models.GSPnP.GSPnP`) the denoiser, in eval mode.
    :raises ValueError: for another number of channels.
    :raises deepinv.utils.DownloadError: if the weights are not here and cannot be
        downloaded.
    """
    if in_channels not in (1, 3):
        raise ValueError(
            "in_channels must be 1 (grey) or 3 (colour): deepinv has no other weights "
            f"for GSDRUNet, got {in_channels}."
        )
    denoiser = GSDRUNet(
        in_channels=in_channels,
        out_channels=in_channels,
        pretrained="download",
        device=device,
    )
    denoiser.detach = False
    return denoiser.to(device)
