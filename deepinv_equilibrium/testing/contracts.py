"""Contracts, suites of contracts, and the error for a broken contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from torch import Tensor

from ..certificates.declarations import declares, undeclared

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
    """A contract does not apply to a component; the message says why."""


def require_declared(part: object, name: str, *computed_by: str) -> None:
    r"""
    Leave a contract out if a component has no valid declaration of a constant.

    :param object part: the component.
    :param str name: the attribute or method that declares the constant.
    :param str computed_by: the methods that the constant describes.
    :raises NotApplicableError: if it has none, with the reason.
    """
    if not declares(part, name, *computed_by):
        raise NotApplicableError(undeclared(part, name))


class Case(Protocol):
    """The arguments of a check: the component, and what is said about it."""

    @property
    def component(self) -> object:
        """The component that is checked."""


C = TypeVar("C", bound=Case)


@dataclass(frozen=True)
class ContractReport:
    r"""
    The result of a check that found no broken contract.

    :param str component: name of the component's class.
    :param dict notes: ``"holds"`` for each contract, or the reason why it does not
        apply.
    """

    component: str
    notes: dict[str, str]

    @property
    def held(self) -> list[str]:
        """Names of the contracts that hold."""
        return [name for name, note in self.notes.items() if note == HOLDS]

    def __str__(self) -> str:
        width = max(map(len, self.notes), default=0)
        lines = [f"{name:{width}s}  {note}" for name, note in self.notes.items()]
        return "\n".join([self.component, *lines])


class Contract(Generic[P, C]):
    r"""
    A single contract. It is called with the arguments of the check of its suite.

    The call returns ``"holds"``, or the reason why the contract does not apply to the
    component. The name of the contract is its ``__name__``, which pytest uses as the id
    of a parameter.

    :param Callable case: builds the case from the arguments of the check.
    :param Callable holds: raises an exception if the case breaks the contract.
    """

    def __init__(self, case: Callable[P, C], holds: Callable[[C], None]) -> None:
        self.__name__ = holds.__name__
        self.__doc__ = holds.__doc__
        self._case = case
        self._holds = holds

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Check a component, see :meth:`check`."""
        __tracebackhide__ = True
        return self.check(self._case(*args, **kwargs))

    def check(self, case: C) -> str:
        r"""
        Check a case.

        :param Case case: the case.
        :return: (str) ``"holds"``, or the reason why the contract does not apply.
        :raises ContractError: if the component breaks the contract.
        """
        __tracebackhide__ = True  # pytest shows the call of the contract
        try:
            self._holds(case)
        except NotApplicableError as error:
            return f"does not apply: {error}"
        except AssertionError as error:
            component = type(case.component).__name__
            raise ContractError(self.__name__, component, str(error)) from None
        except Exception as error:
            component = type(case.component).__name__
            reason = f"it raised {type(error).__name__}: {error}"
            raise ContractError(self.__name__, component, reason) from error
        return HOLDS


class Suite(Generic[P, C]):
    r"""
    The contracts of one kind of component.

    :param Callable case: builds the case from the arguments of the check.
    :param Callable contracts: functions that raise an exception if a case breaks the
        contract. The name of a function is the name of its contract.
    """

    def __init__(self, case: Callable[P, C], *contracts: Callable[[C], None]) -> None:
        self.contracts = {holds.__name__: Contract(case, holds) for holds in contracts}

    def check(self, case: C) -> ContractReport:
        r"""
        Check the contracts in their order, up to the first broken one.

        :param Case case: the case.
        :return: (ContractReport) which contracts hold.
        :raises ContractError: if the component breaks a contract.
        """
        notes = {name: known.check(case) for name, known in self.contracts.items()}
        return ContractReport(type(case.component).__name__, notes)


def require(condition: Any, reason: str) -> None:
    r"""
    Raise an error unless a condition is true.

    :param condition: the condition, a boolean or a tensor with one entry.
    :param str reason: message of the error.
    :raises AssertionError: if the condition is false.
    """
    if not bool(condition):
        raise AssertionError(reason)


def require_close(what: str, found: Tensor, expected: Tensor, rtol: float) -> None:
    r"""
    Raise an error unless a value is close to the expected one.

    :param str what: name of the value in the message.
    :param torch.Tensor found: the value.
    :param torch.Tensor expected: the expected value, of the same shape.
    :param float rtol: largest entry of the difference that is allowed, relative to the
        largest entry of ``expected``.
    :raises AssertionError: if the shapes differ or the values are further apart.
    """
    require(
        found.shape == expected.shape,
        f"{what} has shape {tuple(found.shape)} instead of {tuple(expected.shape)}",
    )
    scale = float(expected.detach().abs().max()) if expected.numel() else 0.0
    error = float((found - expected).detach().abs().max()) if found.numel() else 0.0
    # The comparison is false for NaN.
    require(
        error <= rtol * scale,
        f"{what} differs by {error:.2e} from the expected value, whose largest entry "
        f"is {scale:.2e}; {rtol * scale:.1e} is allowed",
    )
