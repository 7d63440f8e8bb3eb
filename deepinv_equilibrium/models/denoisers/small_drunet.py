"""A small DRUNet with weights that come with the package."""

from __future__ import annotations

from pathlib import Path

import torch
from deepinv.models import DRUNet
from torch import Tensor
from torch.nn.functional import pad

from ...equilibrium.input_checks import check_images
from .bundled_weights import load_pretrained, noise_levels


class SmallDRUNet(DRUNet):
    r"""
    DRUNet with 0.58 million parameters and weights that come with the package,

    .. math::

        \hat x = \operatorname{D}(y, \sigma), \qquad
        y = x + \sigma n, \quad n \sim \mathcal{N}(0, I),

    for images in :math:`[0, 1]` and :math:`\sigma` up to 0.2. It is the network of
    Zhang et al., "Plug-and-play image restoration with deep denoiser prior" (2021), as
    implemented by :class:`deepinv.models.DRUNet`, with (16, 32, 64, 128) channels
    instead of (64, 128, 256, 512) and one block at each scale instead of four. The
    ``state_dict`` has the same keys.

    We depart from :class:`deepinv.models.DRUNet` in one point. There, small images and
    images whose sizes are not multiples of 8 are padded in train mode and cut into four
    overlapping parts in eval mode, so that the two modes are different maps. Here, the
    last row and column are repeated up to the next multiple of 8 in both modes, so that
    an equilibrium model is tested with the map with which it was trained.

    The bundled weights were trained by ``python gallery/training/small_drunet.py`` on
    BSD400. A penalty on estimates of the norm of the Jacobian makes iterations with the
    denoiser converge; this is observed, not proved, and costs .3 to .9 dB. The user
    guide has its PSNR on BSD68 and CBSD68.

    :param int in_channels: channels of the images. The bundled weights are for 3
        (colour) and for 1 (grey), those of ``"knees"`` for 2. The grey weights are
        derived from the colour ones: a grey image is denoised as the mean over the
        channels of the colour image with three equal channels.
    :param str, pathlib.Path, None pretrained: ``"bundled"``; ``"deblurring"``, weights
        that were trained as a part of the deblurring model of the ReTune paper
        :footcite:p:`davy2025restarted`, see ``gallery/training/restart_sweep.py``;
        ``"knees"``, weights for complex images as two channels that were trained as a
        part of DE-PROX :footcite:p:`gilton2021deep` for MRI of knees, see
        ``gallery/training/knees.py``; a path of a ``state_dict``; or ``None`` for
        random weights.
    :param torch.device, str device: device of the network.
    :raises ValueError: if no weights are bundled for ``in_channels``.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.models import SmallDRUNet
    >>> denoiser = SmallDRUNet()
    >>> with torch.no_grad():
    ...     denoised = denoiser(torch.rand(1, 3, 37, 50), sigma=0.1)
    >>> denoised.shape
    torch.Size([1, 3, 37, 50])
    """

    def __init__(
        self,
        in_channels: int = 3,
        pretrained: str | Path | None = "bundled",
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            out_channels=in_channels,
            nc=(16, 32, 64, 128),
            nb=1,
            pretrained=None,
        )
        self.in_channels = in_channels
        name, channels = "small_drunet", {1: "grey", 3: "colour"}
        if pretrained in ("deblurring", "knees"):
            name, pretrained = f"small_drunet_{pretrained}", "bundled"
        if name == "small_drunet_knees":
            channels = {2: "real and imaginary part"}
        load_pretrained(
            self,
            pretrained,
            f"{name}.pt",
            in_channels,
            _fold_colours if in_channels == 1 else None,
            channels,
        )
        self.to(device)

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        r"""
        Denoise a batch of images.

        :param torch.Tensor x: noisy images of shape :math:`(B, C, H, W)`, of any size.
        :param torch.Tensor, float sigma: noise level, in the units of ``x``: one for
            all images; one for each, of shape :math:`(B,)` or :math:`(B, 1, 1, 1)`; or
            a map with one for each pixel, of shape :math:`(B, 1, H, W)`, or
            :math:`(1, 1, H, W)` for all images.
        :return: (:class:`torch.Tensor`) denoised images, of the shape of ``x``.
        :raises ValueError: if ``x`` is not a batch of real images with ``in_channels``
            channels, or ``sigma`` has another shape.
        """
        check_images(x, self.in_channels)
        height, width = x.shape[-2:]
        levels = noise_levels("sigma", sigma, x).expand(len(x), -1, height, width)
        padded = pad(
            torch.cat((x, levels), dim=1),
            (0, -width % 8, 0, -height % 8),
            mode="replicate",
        )
        denoised: Tensor = self.forward_unet(padded)
        return denoised[..., :height, :width]


def _fold_colours(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights whose first layer repeats a grey image and whose last layer
    returns the mean of the colours."""
    image, noise_level = weights["m_head.weight"].float().split([3, 1], dim=1)
    head = torch.cat((image.sum(1, keepdim=True), noise_level), dim=1)
    tail = weights["m_tail.weight"].float().mean(0, keepdim=True)
    return weights | {"m_head.weight": head, "m_tail.weight": tail}
