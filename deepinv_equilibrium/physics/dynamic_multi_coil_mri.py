"""Dynamic MRI with several coils."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from deepinv.physics import MultiCoilMRI, NoiseModel, ZeroNoise
from deepinv.utils.mixins import TimeMixin
from torch import Tensor

from ..certificates import Interval
from ..certificates.spectra.decomposition_rules import multi_coil
from .coil_maps import birdcage_coil_maps
from .dynamic_mri_shapes import (
    complete_coil_maps,
    complete_mask,
    require_common_frames,
    require_frames,
)


class DynamicMultiCoilMRI(MultiCoilMRI, TimeMixin):
    r"""
    Accelerated dynamic magnetic resonance imaging with several coils:

    .. math::

        y_{n,t} = M_t F S_n x_t, \qquad n = 1, \dots, N, \quad t = 1, \dots, T,

    where :math:`S_n` multiplies by the sensitivity of coil :math:`n`, :math:`F` is the
    centred and orthonormal 2D Fourier transform of a frame, and :math:`M_t` is the
    sampling mask of frame :math:`t` :footcite:p:`pruessmann1999sense`. It combines
    :class:`deepinv.physics.MultiCoilMRI`, whose images have no time axis, and
    :class:`deepinv.physics.DynamicMRI`, which has one coil.

    Images have shape ``(B, 2, T, H, W)`` and measurements ``(B, 2, N, T, H, W)``, with
    the real and the imaginary parts as channels. Both are float32 or float64, and the
    result has the type of the argument. The adjoint is exact. :meth:`A_dagger` and
    :meth:`prox_l2` use conjugate gradients.

    It departs from deepinv in three ways:

    - Arguments with wrong shapes or types raise an error that names them.
    - Noise is added to the sampled entries only. deepinv multiplies the noisy data by
      the mask, which applies a mask that is not binary twice.
    - ``physics.to(torch.float64)`` keeps the phase of the coil maps.

    :param torch.Tensor mask: sampling mask, real, of shape ``(H, W)``, ``(T, H, W)``,
        ``(1|2, T, H, W)`` or ``(1|B, 1|2, T, H, W)``; with ``T`` = 1 it is constant in
        time. Default: ``None``, everything is sampled.
    :param torch.Tensor, int coil_maps: complex sensitivities of shape ``(H, W)``,
        ``(N, H, W)`` or ``(1|B, N, H, W)``, constant in time, or
        ``(1|B, N, 1|T, H, W)``. An integer is the number of :func:`birdcage_coil_maps`.
        Default: ``None``, one uniform coil.
    :param tuple img_size: size of an image, ``(2, T, H, W)``. It is required without a
        mask and ignored with a mask. Default: ``None``.
    :param deepinv.physics.NoiseModel noise_model: noise model. Default: ``None``, no
        noise.
    :param int max_iter: maximal number of iterations of the least-squares solver.
        Default: 50.
    :param float tol: relative tolerance of this solver. Default: 1e-4.
    :param torch.device, str device: device of the buffers. Default: ``"cpu"``.
    :raises TypeError: if the mask is not real or the maps are not complex; the methods
        raise it if an image or a measurement is neither float32 nor float64.
    :raises ValueError: if neither a mask nor a size is given, or the shapes do not fit;
        the methods raise it for an image or a measurement of a wrong shape.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.physics import DynamicMultiCoilMRI
    >>> mask = (torch.rand(12, 1, 32) > 0.8).expand(12, 48, 32)
    >>> physics = DynamicMultiCoilMRI(mask, coil_maps=6)
    >>> physics(torch.rand(1, 2, 12, 48, 32)).shape
    torch.Size([1, 2, 6, 12, 48, 32])
    """

    def __init__(
        self,
        mask: Tensor | None = None,
        coil_maps: Tensor | int | None = None,
        img_size: tuple[int, ...] | None = None,
        *,
        noise_model: NoiseModel | None = None,
        max_iter: int = 50,
        tol: float = 1e-4,
        device: torch.device | str = "cpu",
    ) -> None:
        if mask is None:
            if img_size is None:
                raise ValueError(
                    "give a mask, or img_size=(2, T, H, W) to sample everything."
                )
            mask = torch.ones(img_size[-3:], device=device)
        super().__init__(
            mask=mask,
            coil_maps=coil_maps,
            img_size=mask.shape,  # the size of default coil maps
            noise_model=ZeroNoise() if noise_model is None else noise_model,
            max_iter=max_iter,
            tol=tol,
            device=device,
        )
        require_common_frames(self.mask, self.coil_maps)
        self.img_size = tuple(self.mask.shape[1:])

    def A(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        coil_maps: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        r"""
        Sample the k-space of each coil and frame.

        :param torch.Tensor x: image ``(B, 2, T, H, W)``.
        :param torch.Tensor mask: new mask, which replaces the current one. Default:
            ``None``, keep the current one.
        :param torch.Tensor coil_maps: new coil maps, which replace the current ones.
            Default: ``None``, keep the current ones.
        :return: measurements ``(B, 2, N, T, H, W)``.
        """
        self.update_parameters(mask=mask, coil_maps=coil_maps, **kwargs)
        require_frames("x", x, self.mask, self.coil_maps, of_coils=False)
        return super().A(x).to(x.dtype)

    def A_adjoint(
        self,
        y: Tensor,
        mask: Tensor | None = None,
        coil_maps: Tensor | None = None,
        rss: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        r"""
        Apply the transpose of :meth:`A`: the zero-filled reconstruction.

        :param torch.Tensor y: measurements ``(B, 2, N, T, H, W)``.
        :param torch.Tensor mask: new mask, which replaces the current one. Default:
            ``None``, keep the current one.
        :param torch.Tensor coil_maps: new coil maps, which replace the current ones.
            Default: ``None``, keep the current ones.
        :param bool rss: whether to return the root of the sum of squares of the coil
            images instead, which is not linear. Default: ``False``.
        :return: image ``(B, 2, T, H, W)``; ``(B, 1, T, H, W)`` with ``rss``.
        """
        self.update_parameters(mask=mask, coil_maps=coil_maps, **kwargs)
        require_frames("y", y, self.mask, self.coil_maps, of_coils=True)
        return super().A_adjoint(y, rss=rss).to(y.dtype)

    def noise(self, x: Tensor, **kwargs: Any) -> Tensor:
        r"""
        Add noise to the sampled entries; the others stay zero.

        :param torch.Tensor x: noise-free measurements ``(B, 2, N, T, H, W)``.
        :param kwargs: parameters of the noise model.
        :return: noisy measurements.
        """
        return self.noise_model(x, **kwargs) * (self.mask[:, :, None] != 0)

    def update_parameters(
        self,
        mask: Tensor | None = None,
        coil_maps: Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        r"""
        Replace the mask, the coil maps, or both.

        :param torch.Tensor mask: new mask as in the constructor, cast to the type and
            device of the current one. Default: ``None``, keep the current one.
        :param torch.Tensor coil_maps: new coil maps as in the constructor, cast to the
            type and device of the current ones. Default: ``None``, keep the current
            ones.
        :param kwargs: parameters of the noise model, which deepinv also passes here;
            ignored.
        :raises TypeError: if the mask is not real or the maps are not complex.
        :raises ValueError: if the shapes do not fit.
        """
        if mask is not None:
            mask = self.check_mask(mask)
        if coil_maps is not None:
            coil_maps = self.check_coil_maps(coil_maps)
        require_common_frames(
            self.mask if mask is None else mask,
            self.coil_maps if coil_maps is None else coil_maps,
        )
        # MultiCoilMRI.update_parameters warns of coil maps that are constant in time.
        super(MultiCoilMRI, self).update_parameters(
            mask=mask, coil_maps=coil_maps, **kwargs
        )
        self.img_size = tuple(self.mask.shape[1:])

    @staticmethod
    def check_mask(mask: Tensor, three_d: bool = False) -> Tensor:
        r"""
        Reshape a mask to ``(1|B, 2, 1|T, H, W)``.

        :param torch.Tensor mask: mask, as in the constructor.
        :param bool three_d: ignored; deepinv passes it.
        """
        return complete_mask(mask)

    @staticmethod
    def check_coil_maps(coil_maps: Tensor, three_d: bool = False) -> Tensor:
        r"""
        Reshape coil maps to ``(1|B, N, 1|T, H, W)``.

        :param torch.Tensor coil_maps: coil maps, as in the constructor.
        :param bool three_d: ignored; deepinv passes it.
        """
        return complete_coil_maps(coil_maps)

    def simulate_birdcage_csm(self, n_coils: int) -> Tensor:
        """Return :func:`birdcage_coil_maps` of shape ``(N, H, W)``, without sigpy."""
        return birdcage_coil_maps(n_coils, tuple(self.img_size[-2:]))

    @staticmethod
    def rss(
        x: Tensor, multicoil: bool = True, mag: bool = True, three_d: bool = True
    ) -> Tensor:
        """Return the root of the sum of squares over the coils. Time takes the place of
        the third dimension in deepinv."""
        return MultiCoilMRI.rss(x, multicoil, mag, three_d)

    def to_static(self, mask: Tensor | None = None) -> MultiCoilMRI:
        r"""
        Return the MRI of one frame, with the same coil maps and without noise.

        :param torch.Tensor mask: mask of this frame. Default: ``None``, the maximum of
            the masks of all frames.
        :return: (deepinv.physics.MultiCoilMRI) the MRI.
        :raises ValueError: if the coil maps change in time.
        """
        if self.coil_maps.shape[2] > 1:
            raise ValueError(
                "coil_maps change in time, which a static MRI cannot represent; use "
                "maps of shape (B, N, H, W)."
            )
        return MultiCoilMRI(
            mask=self.mask.amax(dim=2) if mask is None else mask,
            coil_maps=self.coil_maps[:, :, 0],
            device=self.mask.device,
        )

    def spectrum(self, img_size: tuple[int, ...]) -> Interval | None:
        r"""
        Bound the spectrum of :math:`A^\top A` for
        :func:`deepinv_equilibrium.spectrum`: by the extremes of
        :math:`m_t^2 \sum_n |s_n|^2` over pixels, frames and samples.

        :param tuple img_size: size of an image, ``(2, T, H, W)``.
        :return: certified bounds; ``None`` if no rule applies.
        """
        return multi_coil(self, img_size)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # torch's cast of a complex tensor to a real type drops the imaginary part.
        def by_parts(t: Tensor) -> Tensor:
            if not t.is_complex():
                return fn(t)
            return torch.view_as_complex(fn(torch.view_as_real(t)))

        return super()._apply(by_parts, recurse)
