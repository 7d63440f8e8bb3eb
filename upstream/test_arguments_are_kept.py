r"""Optimisers change the list and the dictionary that they receive.

The caller's ``trainable_params`` has other names afterwards, and its ``params_algo``
has other keys and lists in place of numbers; a second model that is built from them is
another one.
"""

import deepinv as dinv

OURS = "deepinv_equilibrium/optim/optimiser_arguments.py"


def arguments_after() -> tuple[list[str], dict[str, object]]:
    """Return the arguments after a model was built from them."""
    names, numbers = ["stepsize", "sigma_denoiser"], {"stepsize": 1.0, "lambda": 0.5}
    dinv.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(dinv.models.MedianFilter()),
        params_algo=numbers | {"g_param": 0.1},
        trainable_params=names,
        unfold=True,
    )
    dinv.optim.PGD(
        data_fidelity=dinv.optim.L2(), prior=dinv.optim.TVPrior(), params_algo=numbers
    )
    return names, numbers


def test_arguments_are_not_changed(device):
    names, numbers = arguments_after()
    assert names == ["stepsize", "sigma_denoiser"]
    assert numbers == {"stepsize": 1.0, "lambda": 0.5}


if __name__ == "__main__":
    print(*arguments_after(), sep="\n")
