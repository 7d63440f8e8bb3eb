"""A blur with one kernel per channel."""

from __future__ import annotations

from typing import Any

import torch
from deepinv.physics import Blur, NoiseModel, ZeroNoise
from torch import Tensor

from ..certificates import Interval
from ..certificates.spectra.blur_rules import blur
from .blur_kernels import directional_kernels
from .fourier_convolution import (
    PADDINGS,
    check_image,
    convolve,
    convolve_transpose,
    multiply_spectrum,
    power,
    smallest_image,
    transfer_function,
)


class ChannelwiseBlur(Blur):
    r"""
    Blur with one kernel per channel:

    .. math::

        (Ax)_c = S \, (w_c * E x_c), \qquad c = 1, \dots, C,

    where :math:`*` is a convolution (not a correlation), :math:`E` extends the image
    beyond its border as ``padding`` specifies, and :math:`S` crops to the pixels for
    which the result is exact.

    The default is the operator of the deblurring experiment in *Restarted contractive
    operators to learn at equilibrium* (Davy, Briceño-Arias, Pustelnik, 2025): the three
    :func:`directional_kernels` of 25 pixels with circular padding, because the paper
    writes its data term in the Fourier domain.

    It departs from :class:`deepinv.physics.Blur` in three ways:

    - Every convolution is a product in the Fourier domain, which is fast for long
      kernels.
    - The adjoint :math:`E^\top (\bar{w}_c * S^\top y_c)` has the exact transpose of the
      extension, also for kernels of one row or one column. For these the adjoint of
      :class:`~deepinv.physics.Blur` fails or is not the transpose.
    - With ``padding="circular"``, :math:`A` is diagonal in the Fourier domain with the
      values :math:`\hat{w}_c`, and :meth:`A_adjoint_A`, :meth:`A_A_adjoint`,
      :meth:`A_dagger` and :meth:`prox_l2` are closed forms. With another padding they
      are the methods of :class:`deepinv.physics.LinearPhysics`.

    :param torch.Tensor filter: real kernels of shape ``(C, h, w)`` or ``(b, C, h, w)``,
        with ``b`` equal to 1 or to the batch size. If ``C`` is 1, all channels of the
        image share the kernel. The centre is the weight at ``(h//2, w//2)``, as in
        :class:`~deepinv.physics.Blur`. The filter is a buffer and keeps its gradient.
        Default: ``None``, :func:`directional_kernels`.
    :param str padding: ``'circular'`` (default), ``'replicate'``, ``'reflect'`` or
        ``'constant'`` (zeros, also called ``'zeros'``), which keep the size of the
        image, or ``'valid'``, which returns ``(H-h+1, W-w+1)`` pixels.
    :param deepinv.physics.NoiseModel noise_model: noise model. Default: ``None``, no
        noise.
    :param int max_iter: maximal number of iterations of the least-squares solver, which
        is used where no closed form exists. Default: 50.
    :param float tol: relative tolerance of this solver. Default: 1e-4.
    :param torch.device, str device: device of the buffers. Default: ``"cpu"``.
    :raises TypeError: if the filter is not a real floating-point tensor; the methods
        raise it for such an image.
    :raises ValueError: if the padding is unknown or the filter has a wrong shape; the
        methods raise it for an image with a wrong number of axes, channels or samples,
        or with fewer pixels than the filter needs.

    :Examples:

        >>> import torch
        >>> from deepinv_equilibrium.physics import ChannelwiseBlur
        >>> physics = ChannelwiseBlur()
        >>> x = torch.rand(2, 3, 64, 48)
        >>> physics(x).shape
        torch.Size([2, 3, 64, 48])

    """

    def __init__(
        self,
        filter: Tensor | None = None,
        padding: str = "circular",
        *,
        noise_model: NoiseModel | None = None,
        max_iter: int = 50,
        tol: float = 1e-4,
        device: torch.device | str = "cpu",
    ) -> None:
        padding = "constant" if padding == "zeros" else padding
        if padding not in PADDINGS:
            raise ValueError(f"padding must be one of {PADDINGS}, got {padding!r}.")
        kernels = directional_kernels() if filter is None else filter
        super().__init__(
            filter=_as_batch_of_kernels(kernels),
            padding=padding,
            use_fft=True,
            noise_model=ZeroNoise() if noise_model is None else noise_model,
            max_iter=max_iter,
            tol=tol,
            device=device,
        )

    def update_parameters(self, filter: Tensor | None = None, **kwargs: Any) -> None:
        r"""
        Replace the filter.

        :param torch.Tensor filter: new kernels as in the constructor, cast to the type
            and device of the current ones. Default: ``None``, keep the current ones.
        :param kwargs: parameters of the noise model, which deepinv also passes here;
            ignored.
        :raises TypeError: if the filter is not a real floating-point tensor.
        :raises ValueError: if the filter has a wrong shape.
        """
        if filter is not None:
            filter = _as_batch_of_kernels(filter)
        super().update_parameters(filter=filter, **kwargs)

    def A(self, x: Tensor, filter: Tensor | None = None, **kwargs: Any) -> Tensor:
        r"""
        Blur an image.

        :param torch.Tensor x: image ``(B, C, H, W)``.
        :param torch.Tensor filter: new kernels, which replace the current ones.
            Default: ``None``, keep the current ones.
        :return: blurred image.
        :raises TypeError: if ``x`` or ``filter`` is not a real floating-point tensor.
        :raises ValueError: if ``x`` or ``filter`` has a wrong shape.
        """
        self.update_parameters(filter=filter, **kwargs)
        self._check("x", x)
        return convolve(x, self.filter, self.padding)

    def A_adjoint(
        self, y: Tensor, filter: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        r"""
        Apply the transpose of :meth:`A`.

        :param torch.Tensor y: blurred image.
        :param torch.Tensor filter: new kernels, which replace the current ones.
            Default: ``None``, keep the current ones.
        :return: tensor of the shape of the image.
        :raises TypeError: if ``y`` or ``filter`` is not a real floating-point tensor.
        :raises ValueError: if ``y`` or ``filter`` has a wrong shape.
        """
        self.update_parameters(filter=filter, **kwargs)
        self._check("y", y)
        return convolve_transpose(y, self.filter, self.padding)

    def A_adjoint_A(self, x: Tensor, **kwargs: Any) -> Tensor:
        r"""
        Apply :math:`A^\top A`, as one product with :math:`|\hat w|^2` if the padding is
        circular.

        :param torch.Tensor x: image ``(B, C, H, W)``.
        :return: tensor of the shape of ``x``.
        """
        if self.padding != "circular":
            return super().A_adjoint_A(x, **kwargs)
        self.update_parameters(**kwargs)
        self._check("x", x)
        return multiply_spectrum(x, power(transfer_function(self.filter, x)))

    def A_A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        r"""
        Apply :math:`A A^\top`, which is :math:`A^\top A` if the padding is circular.

        :param torch.Tensor y: blurred image.
        :return: tensor of the shape of ``y``.
        """
        if self.padding != "circular":
            return super().A_A_adjoint(y, **kwargs)
        return self.A_adjoint_A(y, **kwargs)

    def A_dagger(self, y: Tensor, **kwargs: Any) -> Tensor:
        r"""
        Solve :math:`Ax = y` in the least-squares sense.

        If the padding is circular, this is the pseudo-inverse: division by
        :math:`\hat w` where :math:`|\hat w| > \epsilon \max(H, W) \max |\hat w|`, with
        the machine precision :math:`\epsilon`, and zero elsewhere.

        :param torch.Tensor y: blurred image.
        :param kwargs: arguments of :meth:`deepinv.physics.LinearPhysics.A_dagger`,
            which computes the solution with another padding.
        :return: image.
        """
        if self.padding != "circular":
            return super().A_dagger(y, **kwargs)
        self._check("y", y)
        transfer = transfer_function(self.filter, y)
        gain = power(transfer)
        cutoff = torch.finfo(y.dtype).eps * max(y.shape[-2:])
        regular = gain > cutoff**2 * gain.amax(dim=(-2, -1), keepdim=True)
        # A division by 0 in the branch that is not used would make its gradient NaN.
        inverse = transfer.conj() * regular / torch.where(regular, gain, 1.0)
        return multiply_spectrum(y, inverse)

    @property
    def has_closed_prox(self) -> bool:
        """Whether :meth:`prox_l2` is a closed form and not an iterative solution.
        Certificates of algorithms that use it need to know."""
        return self.padding == "circular"

    def prox_l2(
        self, z: Tensor | float | None, y: Tensor, gamma: Tensor | float, **kwargs: Any
    ) -> Tensor:
        r"""
        Proximal operator of :math:`\frac{\gamma}{2}\|Ax-y\|^2` at :math:`z`. If the
        padding is circular, it is

        .. math::

            \hat x = (\hat z + \gamma \bar{\hat w} \hat y) / (1 + \gamma |\hat w|^2).

        Otherwise :meth:`deepinv.physics.LinearPhysics.prox_l2` computes it.

        :param torch.Tensor, float, None z: point; a number means a constant image, and
            ``None`` means zero.
        :param torch.Tensor y: blurred image.
        :param torch.Tensor, float gamma: weight :math:`\gamma \geq 0`, a number or one
            value per sample.
        :param kwargs: arguments of the solver for the other paddings.
        :return: image.
        """
        if self.padding != "circular":
            return super().prox_l2(z, y, gamma, **kwargs)
        self._check("y", y)
        if not isinstance(z, Tensor):
            z = torch.full_like(y, 0.0 if z is None else z)
        self._check("z", z)
        if isinstance(gamma, Tensor):
            gamma = gamma.reshape(gamma.shape + (1,) * (y.dim() - gamma.dim())).to(y)
        transfer = transfer_function(self.filter, y)
        spectrum = torch.fft.rfft2(z) + gamma * transfer.conj() * torch.fft.rfft2(y)
        return torch.fft.irfft2(
            spectrum / (1 + gamma * power(transfer)), s=y.shape[-2:]
        )

    def spectrum(self, img_size: tuple[int, ...]) -> Interval | None:
        r"""
        Bound the spectrum of :math:`A^\top A` for
        :func:`deepinv_equilibrium.spectrum`: by the extremes of :math:`|\hat w|^2` if
        the padding is circular, else as for a :class:`~deepinv.physics.Blur`.

        :param tuple img_size: size of an image, ``(C, H, W)``.
        :return: certified bounds; ``None`` if no rule applies.
        """
        return blur(self, img_size)

    def _check(self, name: str, image: Tensor) -> None:
        if name == "y" and self.padding == "valid":
            smallest = (1, 1)  # every size is the size of some blurred image
        else:
            smallest = smallest_image(self.filter, self.padding)
        check_image(name, image, self.filter, smallest)


def _as_batch_of_kernels(kernels: Tensor) -> Tensor:
    """Return kernels of shape (b, C, h, w), or raise."""
    if not isinstance(kernels, Tensor):
        raise TypeError(f"filter must be a tensor, got {type(kernels).__name__}.")
    if not kernels.is_floating_point():
        raise TypeError(
            f"filter must be a real floating-point tensor, got {kernels.dtype}."
        )
    if kernels.dim() not in (3, 4) or kernels.numel() == 0:
        raise ValueError(
            f"filter must have shape (C, h, w) or (b, C, h, w) with no empty axis, got "
            f"{tuple(kernels.shape)}."
        )
    return kernels if kernels.dim() == 4 else kernels[None]
