"""The second name of trained parameters in a ``state_dict`` of deepinv."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .trained_parameters import TrainedParameters


class SecondName(nn.Module):
    """A module without parameters that saves and loads trained parameters under another
    name.

    The parameters themselves must not have two names: after
    :func:`torch.func.functional_call` torch does not restore the parameters of a module
    that is registered twice.

    :param TrainedParameters trained: the parameters.
    """

    def __init__(self, trained: TrainedParameters) -> None:
        super().__init__()
        self._trained = (trained,)  # in a tuple, which does not register it

    @property
    def trained(self) -> TrainedParameters:
        """The parameters."""
        return self._trained[0]

    def _save_to_state_dict(self, *args: Any) -> None:
        self.trained._save_to_state_dict(*args)

    def _load_from_state_dict(self, *args: Any) -> None:
        self.trained._load_from_state_dict(*args)


class SecondNames(nn.ParameterDict):
    """deepinv's ``init_params_algo``: the parameters of an algorithm under a second
    name. Indexing returns the parameters themselves.

    :param dict parameters: the values of each parameter, one for each layer, by name.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        super().__init__(
            {
                name: SecondName(v) if isinstance(v, TrainedParameters) else v
                for name, v in parameters.items()
            }
        )

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return value.trained if isinstance(value, SecondName) else value
