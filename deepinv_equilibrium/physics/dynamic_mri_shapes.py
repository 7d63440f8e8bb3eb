"""Shapes of masks, coil maps, images and measurements of a dynamic MRI."""

from __future__ import annotations

import torch
from torch import Tensor


def complete_mask(mask: Tensor) -> Tensor:
    r"""
    Reshape a mask to ``(1|B, 2, 1|T, H, W)``.

    :param torch.Tensor mask: ``(H, W)``, ``(T, H, W)``, ``(1|2, T, H, W)`` or
        ``(1|B, 1|2, T, H, W)``.
    :return: mask of a floating-point type.
    :raises TypeError: if the mask is complex.
    :raises ValueError: if the mask has another shape.
    """
    mask = torch.as_tensor(mask)
    if mask.is_complex():
        raise TypeError(f"mask must be real, got {mask.dtype}.")
    completed = mask[(None,) * (5 - mask.dim())]
    if mask.dim() < 2 or completed.dim() > 5 or completed.shape[1] not in (1, 2):
        raise ValueError(
            "mask must have shape (H, W), (T, H, W), (1|2, T, H, W) or "
            f"(1|B, 1|2, T, H, W), got {tuple(mask.shape)}."
        )
    if not mask.is_floating_point():
        completed = completed.to(torch.get_default_dtype())
    if completed.shape[1] == 2:
        return completed
    return torch.cat([completed, completed], dim=1)


def complete_coil_maps(coil_maps: Tensor) -> Tensor:
    r"""
    Reshape coil maps to ``(1|B, N, 1|T, H, W)``.

    :param torch.Tensor coil_maps: ``(H, W)``, ``(N, H, W)`` or ``(1|B, N, H, W)``,
        constant in time, or ``(1|B, N, 1|T, H, W)``.
    :return: coil maps.
    :raises TypeError: if the maps are not complex.
    :raises ValueError: if the maps have another shape.
    """
    if not (isinstance(coil_maps, Tensor) and coil_maps.is_complex()):
        got = getattr(coil_maps, "dtype", type(coil_maps).__name__)
        raise TypeError(f"coil_maps must be a complex tensor, got {got}.")
    if not 2 <= coil_maps.dim() <= 5:
        raise ValueError(
            "coil_maps must have shape (H, W), (N, H, W), (1|B, N, H, W) or "
            f"(1|B, N, 1|T, H, W), got {tuple(coil_maps.shape)}."
        )
    if coil_maps.dim() < 5:
        coil_maps = coil_maps.unsqueeze(-3)
    return coil_maps[(None,) * (5 - coil_maps.dim())]


def require_common_frames(mask: Tensor, coil_maps: Tensor) -> None:
    r"""
    Raise unless a mask and coil maps fit each other.

    :param torch.Tensor mask: mask of shape ``(1|B, 2, 1|T, H, W)``.
    :param torch.Tensor coil_maps: coil maps of shape ``(1|B, N, 1|T, H, W)``.
    :raises ValueError: if ``B``, ``T``, ``H`` or ``W`` differs.
    """
    batches = {mask.shape[0], coil_maps.shape[0]} - {1}
    frames = {mask.shape[2], coil_maps.shape[2]} - {1}
    if len(batches) > 1 or len(frames) > 1 or mask.shape[3:] != coil_maps.shape[3:]:
        raise ValueError(
            f"mask, completed to {tuple(mask.shape)}, and coil_maps, completed to "
            f"{tuple(coil_maps.shape)}, must have the same H and W, and the same B and "
            "T where those are not 1. Replace them in one call of update."
        )


def require_frames(
    name: str, image: Tensor, mask: Tensor, coil_maps: Tensor, *, of_coils: bool
) -> None:
    r"""
    Raise unless an image or a measurement fits the mask and the coil maps.

    :param str name: name of the argument, for the message.
    :param torch.Tensor image: image ``(B, 2, T, H, W)``, or measurement
        ``(B, 2, N, T, H, W)``.
    :param torch.Tensor mask: mask of shape ``(1|B, 2, 1|T, H, W)``.
    :param torch.Tensor coil_maps: coil maps of shape ``(1|B, N, 1|T, H, W)``.
    :param bool of_coils: whether ``image`` is a measurement, which has an axis of
        coils.
    :raises TypeError: if ``image`` is neither float32 nor float64.
    :raises ValueError: if ``image`` has another shape.
    """
    if image.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{name} must be float32 or float64, with the real and the imaginary part "
            f"as channels, got {image.dtype}."
        )
    batch = max(mask.shape[0], coil_maps.shape[0])
    frames = max(mask.shape[2], coil_maps.shape[2])
    coils = (coil_maps.shape[1],) if of_coils else ()
    # None allows any number: the mask and the maps broadcast along this axis.
    expected: tuple[int | None, ...] = (
        batch if batch > 1 else None,
        2,
        *coils,
        frames if frames > 1 else None,
        *mask.shape[3:],
    )
    fits = image.dim() == len(expected) and all(
        want in (None, got) for want, got in zip(expected, image.shape, strict=True)
    )
    if not fits:
        axes = "(B, 2, N, T, H, W)" if of_coils else "(B, 2, T, H, W)"
        sizes = ", ".join("any" if n is None else str(n) for n in expected)
        raise ValueError(
            f"{name} must have shape {axes}, here ({sizes}) for this mask and these "
            f"coil maps, got {tuple(image.shape)}."
        )
