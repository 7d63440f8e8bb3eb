r"""Misspelt arguments of optimisers are ignored.

``PGD(max_iters=7)`` makes 100 iterations, and ``trainable_params=["step_size"]`` trains
nothing, without a word.
"""

import deepinv as dinv
import pytest

OURS = "deepinv_equilibrium/optim/optimiser_arguments.py"


def build(**arguments: object) -> dinv.optim.PGD:
    """Return an optimiser."""
    return dinv.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.TVPrior(),
        stepsize=1.0,
        **arguments,
    )


def test_unknown_argument_is_refused(device):
    with pytest.raises(TypeError, match="max_iters"):
        build(max_iters=7)


if __name__ == "__main__":
    print("PGD(max_iters=7) makes", build(max_iters=7).max_iter, "iterations")
