"""A residual block that declares itself."""

from __future__ import annotations

from torch import Tensor, nn

from ..bounds import Bound, derived, outward
from .lipschitz_constant import lipschitz


class Residual(nn.Module):
    r"""
    The residual block :math:`x \mapsto x + f(x)`, whose Lipschitz constant is at most
    :math:`1 + L_f`.

    >>> import torch, deepinv_equilibrium as deq
    >>> block = deq.certificates.Residual(torch.nn.Sigmoid())
    >>> print(deq.lipschitz(block))
    <= 1.25 (certified: 1 + block)

    :param torch.nn.Module block: :math:`f`, whose output has the shape of its input.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        r"""
        Add the block's output to its input.

        :param torch.Tensor x: the input.
        :raises ValueError: if the output has another shape, for a broadcast sum would
            have another norm.
        """
        out = self.block(x)
        if out.shape != x.shape:
            raise ValueError(
                f"block must keep the shape of its input: {tuple(x.shape)} became "
                f"{tuple(out.shape)}."
            )
        return x + out

    def lipschitz_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        r"""
        :math:`1 + L_f`.

        :param tuple img_size: size of the input without the batch.
        """
        block = lipschitz(self.block, img_size)
        return derived(outward(1 + block.value), [block], "1 + block")
