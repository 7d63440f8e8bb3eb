"""The Kullback-Leibler data fidelity of Poisson noise."""

from __future__ import annotations

import math
from typing import Any

import torch
from deepinv.optim import DataFidelity
from deepinv.physics import Denoising, Physics, PoissonNoise
from torch import Tensor

from ...fixed_points.argument_checks import require_number
from .kullback_leibler_distance import KullbackLeiblerDistance, Scalar, broadcast


class KullbackLeibler(DataFidelity):
    r"""
    The data fidelity of Poisson noise of any gain,

    .. math::

        f(x) = \operatorname{KL}\Bigl(c, \frac{A x + b}{\gamma}\Bigr), \qquad
        \operatorname{KL}(c, m) = \sum_i c_i \log \frac{c_i}{m_i} + m_i - c_i, \qquad
        \nabla f(x) = \frac{1}{\gamma} A^\top \Bigl(1 - \frac{c}{m}\Bigr),

    the negative log-likelihood of counts
    :math:`c \sim \mathcal{P}((A x + b) / \gamma)` up to a constant.
    :class:`deepinv.physics.PoissonNoise` returns :math:`y = \gamma c`, in the unit of
    :math:`A x`, with its default ``normalize=True``, and :math:`y = c` with
    ``normalize=False``. The gain and the unit are read from the noise model of the
    physics unless ``gain`` is given. Some authors write :math:`\alpha` for
    :math:`1 / \gamma`.

    For :math:`A \geq 0` and :math:`b \geq 0` the data fidelity is convex. It is smooth
    relative to Burg's entropy :math:`h(x) = -\sum_i \log x_i`
    :footcite:p:`bauschke2017descent`: :math:`\|c\|_1 h - f` is convex
    (:meth:`relative_smoothness`). The gradient :math:`\nabla f` is not Lipschitz
    continuous for :math:`b = 0`.

    We depart from :class:`deepinv.optim.PoissonLikelihood` in three points. There, the
    gradient is :math:`\gamma^2` times the gradient of the value; the value of each
    sample contains the logarithms of the whole batch; and the value is not 0 at
    :math:`m = c`.

    :param float, torch.Tensor gain: :math:`\gamma > 0`, a number or one number a
        sample. Default: ``None``, the gain of the ``noise_model`` of the physics.
    :param bool normalize: whether :math:`y = \gamma c`. It is ignored if the gain comes
        from the noise model. Default: ``True``.
    :param float, torch.Tensor background: :math:`b \geq 0`, in the unit of
        :math:`A x`. Default: 0.
    :raises TypeError: if gain or background is neither a number nor a tensor.
    :raises ValueError: if the gain is not positive and finite, or the background not
        nonnegative and finite.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> noise = dinv.physics.PoissonNoise(gain=0.25)
    >>> physics = dinv.physics.Denoising(noise)
    >>> x, y = torch.full((2, 1, 1, 4), 2.0), torch.ones(2, 1, 1, 4)
    >>> fidelity = deq.optim.KullbackLeibler()
    >>> fidelity(x, y, physics)  # 4 pixels, 4 (log(1 / 2) + 2 - 1) each
    tensor([4.9096, 4.9096])
    >>> fidelity.grad(x, y, physics)[0].flatten()  # 4 (1 - 1 / 2)
    tensor([2., 2., 2., 2.])
    """

    d: KullbackLeiblerDistance

    def __init__(
        self,
        gain: Scalar | None = None,
        normalize: bool = True,
        background: Scalar = 0.0,
    ):
        super().__init__()
        for name, value, least in (("gain", gain, None), ("background", background, 0)):
            if value is None:
                continue
            if not isinstance(value, Tensor):
                require_number(name, value)
            numbers = torch.as_tensor(value)
            within = numbers > 0 if least is None else numbers >= least
            if not bool((within & (numbers < math.inf)).all()):
                bracket = "(" if least is None else "["
                raise ValueError(f"{name} must be in {bracket}0, inf), got {value!r}.")
        self.d = KullbackLeiblerDistance(gain, normalize, background)

    def fn(
        self, x: Tensor, y: Tensor, physics: Physics, *args: Any, **kwargs: Any
    ) -> Tensor:
        r"""
        Evaluate the data fidelity.

        :param torch.Tensor x: image, of shape :math:`(B, C, H, W)`.
        :param torch.Tensor y: measurement, nonnegative.
        :param deepinv.physics.Physics physics: physics of the measurement.
        :return: (:class:`torch.Tensor`) :math:`f(x)`, of shape :math:`(B,)`; infinite
            outside the domain of :math:`f`.
        :raises ValueError: if ``y`` is negative, or the gain is unknown.
        """
        return self._distance(physics).fn(physics.A(x), y)

    def grad(
        self, x: Tensor, y: Tensor, physics: Physics, *args: Any, **kwargs: Any
    ) -> Tensor:
        r"""
        Return the gradient of the data fidelity.

        :param torch.Tensor x: image, of shape :math:`(B, C, H, W)`.
        :param torch.Tensor y: measurement, nonnegative.
        :param deepinv.physics.Physics physics: physics of the measurement.
        :return: (:class:`torch.Tensor`) :math:`\nabla f(x)`, of the shape of ``x``.
        :raises ValueError: if ``y`` is negative, or the gain is unknown.
        """
        return physics.A_vjp(x, self._distance(physics).grad(physics.A(x), y))

    def prox(
        self,
        x: Tensor,
        y: Tensor,
        physics: Physics,
        *args: Any,
        gamma: Scalar = 1.0,
        **kwargs: Any,
    ) -> Tensor:
        r"""
        Evaluate the proximal operator of :math:`\tau f` in closed form, for denoising.

        :param torch.Tensor x: image, of shape :math:`(B, C, H, W)`.
        :param torch.Tensor y: measurement, nonnegative.
        :param deepinv.physics.Denoising physics: physics of the measurement.
        :param float, torch.Tensor gamma: step size :math:`\tau`, a number or one number
            a sample.
        :return: (:class:`torch.Tensor`) the image, of the shape of ``x``.
        :raises ValueError: if the physics is not a
            :class:`deepinv.physics.Denoising`, ``y`` is negative, or the gain is
            unknown.
        """
        if not isinstance(physics, Denoising):
            raise ValueError(
                "physics must be a Denoising for the proximal operator of "
                f"KullbackLeibler, got {type(physics).__name__}, for which it has no "
                "closed form. Use a method without this operator: "
                "PoissonMirrorDescent, MD, or PDCP with K=physics.A."
            )
        return self._distance(physics).prox(x, y, gamma=gamma)

    def relative_smoothness(self, y: Tensor, physics: Physics) -> Tensor:
        r"""
        Return the constant :math:`L = \|c\|_1` of Lemma 7 of
        :footcite:t:`bauschke2017descent`: for :math:`A \geq 0` and Burg's entropy
        :math:`h` the function :math:`L h - f` is convex. Mirror descent on :math:`f`
        with a step size below :math:`1 / L` therefore decreases :math:`f`.

        :param torch.Tensor y: measurement, nonnegative, of shape :math:`(B, ...)`.
        :param deepinv.physics.Physics physics: physics of the measurement.
        :return: (:class:`torch.Tensor`) :math:`L`, of shape :math:`(B,)`.
        :raises ValueError: if ``y`` is negative, or the gain is unknown.
        """
        normalized, gain = self.normalized(y, physics), self._distance(physics).gain
        assert gain is not None
        return (normalized / broadcast("gain", gain, y)).flatten(1).sum(dim=1)

    def normalized(self, y: Tensor, physics: Physics) -> Tensor:
        r"""
        Return the measurement in the unit of :math:`A x`.

        :param torch.Tensor y: measurement.
        :param deepinv.physics.Physics physics: physics of the measurement.
        :return: (:class:`torch.Tensor`) :math:`\gamma c`, of the shape of ``y``.
        :raises ValueError: if ``y`` is negative, or the gain is unknown.
        """
        return self._distance(physics).in_unit_of_u(y, y)[1]

    def _distance(self, physics: Physics) -> KullbackLeiblerDistance:
        """Return the distance with the given gain, or with the gain of the physics."""
        if self.d.gain is not None:
            return self.d
        noise = physics.noise_model
        if not isinstance(noise, PoissonNoise):
            raise ValueError(
                "gain must be given, as in KullbackLeibler(gain=0.05), because the "
                "noise_model of the physics is not a deepinv.physics.PoissonNoise, got "
                f"{type(noise).__name__}."
            )
        return KullbackLeiblerDistance(
            noise.gain, bool(noise.normalize), self.d.background
        )
