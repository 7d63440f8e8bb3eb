"""Contracts, the suites that hold them, and the error that names a broken one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from torch import Tensor

P = ParamSpec("P")
HOLDS = "holds"


class ContractError(AssertionError):
    r"""
    A component breaks a contract.

    :param str contract: name of the contract.
    :param str component: name of the component's class.
    :param str reason: what was found and what was expected, with the numbers.
    """

    def __init__(self, contract: str, component: str, reason: str) -> None:
        self.contract = contract
        self.component = component
        self.reason = reason
        super().__init__(f"{component} breaks the contract {contract!r}: {reason}")


class NotApplicableError(Exception):
    """Raised by a contract that says nothing about this component."""


class Case(Protocol):
    """The arguments of a check: the component, and what is said about it."""

    @property
    def component(self) -> object:
        """The component that is checked."""


C = TypeVar("C", bound=Case)


@dataclass(frozen=True)
class ContractReport:
    r"""
    The outcome of a check that found no broken contract.

    :param str component: name of the component's class.
    :param dict notes: for every contract ``"holds"``, or why it does not apply.
    """

    component: str
    notes: dict[str, str]

    @property
    def held(self) -> list[str]:
        """Names of the contracts that were checked and hold."""
        return [name for name, note in self.notes.items() if note == HOLDS]

    def __str__(self) -> str:
        width = max(map(len, self.notes), default=0)
        lines = [f"{name:{width}s}  {note}" for name, note in self.notes.items()]
        return "\n".join([self.component, *lines])


class Contract(Generic[P, C]):
    r"""
    One contract, as a function with the arguments of its suite's check.

    It returns ``"holds"``, or why it does not apply to the component. Its ``__name__``
    is the name of the contract, which pytest shows as the id of a parameter.

    :param Callable case: builds the case from the arguments of the check.
    :param Callable holds: raises an exception where the case breaks the contract.
    """

    def __init__(self, case: Callable[P, C], holds: Callable[[C], None]) -> None:
        self.__name__ = holds.__name__
        self.__doc__ = holds.__doc__
        self._case = case
        self._holds = holds

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Check the component."""
        return self.check(self._case(*args, **kwargs))

    def check(self, case: C) -> str:
        r"""
        Check a case that has been built.

        :param Case case: the case.
        :return: (str) ``"holds"``, or why the contract does not apply.
        :raises ContractError: if the component breaks the contract.
        """
        try:
            self._holds(case)
        except NotApplicableError as error:
            return f"does not apply: {error}"
        except Exception as error:
            reason = str(error)
            if not isinstance(error, AssertionError):
                reason = f"it raised {type(error).__name__}: {reason}"
            component = type(case.component).__name__
            raise ContractError(self.__name__, component, reason) from error
        return HOLDS


class Suite(Generic[P, C]):
    r"""
    The contracts of one kind of component.

    :param Callable case: builds the case from the arguments of the check.
    :param Callable contracts: functions that raise an exception where a case breaks the
        contract; the name of a function is the name of the contract.
    """

    def __init__(self, case: Callable[P, C], *contracts: Callable[[C], None]) -> None:
        self.contracts = {holds.__name__: Contract(case, holds) for holds in contracts}

    def check(self, case: C) -> ContractReport:
        r"""
        Check every contract, and stop at the first that is broken.

        :param Case case: the case.
        :raises ContractError: if the component breaks a contract.
        """
        notes = {name: known.check(case) for name, known in self.contracts.items()}
        return ContractReport(type(case.component).__name__, notes)


def require(condition: Any, reason: str) -> None:
    r"""
    :param condition: what must be true: a boolean, or a tensor of one.
    :param str reason: what is wrong if it is not.
    :raises AssertionError: if it is not.
    """
    if not bool(condition):
        raise AssertionError(reason)


def require_close(what: str, found: Tensor, expected: Tensor, rtol: float) -> None:
    r"""
    :param str what: what is compared, for the message.
    :param torch.Tensor found: the value of the component.
    :param torch.Tensor expected: the right value, of the same shape.
    :param float rtol: the largest entry of the difference may be ``rtol`` times the
        largest entry of ``expected``.
    :raises AssertionError: if the shapes differ or the values are further apart.
    """
    require(
        found.shape == expected.shape,
        f"{what} has shape {tuple(found.shape)} instead of {tuple(expected.shape)}",
    )
    scale = float(expected.detach().abs().max()) if expected.numel() else 0.0
    error = float((found - expected).detach().abs().max()) if found.numel() else 0.0
    # Written so that NaN fails.
    require(
        error <= rtol * scale,
        f"{what} differs by {error:.2e} from what is expected, whose largest entry is "
        f"{scale:.2e}; allowed are {rtol * scale:.1e}",
    )
