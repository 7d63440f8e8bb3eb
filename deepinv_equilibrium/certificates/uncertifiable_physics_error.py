"""The refusal of a physics about whose spectrum nothing can be said."""

from __future__ import annotations

from deepinv.physics import Physics


class UncertifiablePhysicsError(ValueError):
    r"""
    No bound of the spectrum of :math:`A^\top A` can be given.

    :param deepinv.physics.Physics physics: the physics.
    :param str reason: why, and what can be done about it.
    """

    def __init__(self, physics: Physics, reason: str) -> None:
        self.physics = physics
        self.reason = reason
        super().__init__(f"a {type(physics).__name__} cannot be certified: {reason}")


class AdjointMismatchError(UncertifiablePhysicsError):
    r"""
    ``A_adjoint`` is not the transpose of ``A``, so that what an algorithm computes with
    both is not about :math:`A^\top A`.

    :param deepinv.physics.Physics physics: the physics.
    :param float mismatch: :math:`|\langle Au, w\rangle - \langle u, A^\top w\rangle|`
        over :math:`\|Au\|\|w\| + \|u\|\|A^\top w\|`, the largest of those tried.
    :param float tolerance: what rounding could explain.
    """

    def __init__(self, physics: Physics, mismatch: float, tolerance: float) -> None:
        self.mismatch = mismatch
        self.tolerance = tolerance
        super().__init__(
            physics,
            f"<Au, w> and <u, A_adjoint(w)> differ by {mismatch:.1e} of their scale, "
            f"where rounding explains {tolerance:.1e}: A_adjoint is not the transpose "
            "of A, or A is not linear. Use an exact adjoint: adjoint_via_backprop=True "
            "for Tomography, deepinv.physics.adjoint_function in general; for a Blur "
            "with a kernel of one row or column, pad the kernel with zeros to three, "
            "or use ChannelwiseBlur.",
        )
