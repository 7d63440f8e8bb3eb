"""The registry: components that are installed or registered, and errors."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import deepinv as dinv
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import deepinv_equilibrium as deq
from deepinv_equilibrium import plugins
from deepinv_equilibrium.models import pretrained_drunet

from .installed import install
from .one_test import in_one_test

ROOT = Path(__file__).parents[1]
EXAMPLES = Path(__file__).parent / "plugin_example"

_TABLES = re.findall(
    r'^\[project\.entry-points\."deepinv_equilibrium\.(\w+)"\]\n((?:.+\n)*)',
    (ROOT / "pyproject.toml").read_text("utf-8"),
    re.MULTILINE,
)
# The kind, the name and the object of each entry point of the package.
OWN = [
    (kind, name, target)
    for kind, lines in _TABLES
    for name, target in re.findall(r'^([\w-]+) = "(.+)"$', lines, re.MULTILINE)
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the three example distributions, built and installed."""
    sources = [ROOT / "examples" / "plugin", *EXAMPLES.iterdir()]
    return install(sources, tmp_path_factory.mktemp("plugins"))


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the example distributions on the path of this process."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(site)
    yield
    for module in set(sys.modules) - before:
        if module.startswith("deq_plugin"):
            del sys.modules[module]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an empty registry of this process."""
    monkeypatch.setattr(plugins, "_registered", {kind: {} for kind in plugins.KINDS})


@pytest.mark.usefixtures("installed")
def test_plugin_of_another_distribution_is_found_and_used() -> None:
    assert "wiener" in plugins.names("denoisers")
    assert "deq_plugin_example" not in sys.modules, "listing the names imported it"
    denoiser = plugins.create("denoisers", "wiener", signal_std=2.0, mean=0.0)
    x = torch.tensor([[[[10.0]]]], dtype=torch.float64)
    torch.testing.assert_close(denoiser(x, 1.0), 0.8 * x, rtol=1e-15, atol=0.0)
    assert type(denoiser).__module__ == "deq_plugin_example.denoiser"

    model = plugins.create(
        "reconstructors",
        "retune-pgd",
        denoiser="wiener",
        layers=2,
        restarts=3,
        stepsize=0.5,
        sigma_denoiser=1.0,
        trainable_params=[],
    )
    expected = x
    for _ in range(6):
        step = expected - 0.5 * (expected - x)
        expected = 0.5 + (step - 0.5) / 2
    found = model(x, dinv.physics.Denoising())
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0.0)
    assert "deq_plugin_broken" not in sys.modules, "loading one plugin imported another"


@pytest.mark.usefixtures("installed")
def test_presets_take_solvers_and_saved_models_name_their_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("deq-pgd", "certified-deq-pgd"):
        model = plugins.create(
            "reconstructors",
            name,
            denoiser="convex-potential",
            solver="barzilai-borwein",
            adjoint="jacobian-free",
        )
        assert type(model.DEQ.solver).__name__ == "BarzilaiBorwein"
        assert model.DEQ.adjoint == deq.JacobianFree()
    assert plugins.distribution_of("solvers", "barzilai-borwein") == (
        "deq-plugin-example"
    )
    deq.save(model, tmp_path / "model.pt")
    assert deq.load(tmp_path / "model.pt").DEQ == model.DEQ
    monkeypatch.setattr(sys, "path", sys.path[1:])
    message = "Unknown name 'barzilai-borwein'.*Install deq-plugin-example"
    with pytest.raises(deq.presets.SavedModelError, match=message):
        deq.load(tmp_path / "model.pt")


def test_package_offers_components_of_every_kind() -> None:
    assert {kind for kind, _, _ in OWN} == set(plugins.KINDS)


@in_one_test(
    ("kind", "name", "target"), OWN, ids=[f"{kind}:{name}" for kind, name, _ in OWN]
)
def test_component_of_the_package_is_the_object_of_its_entry_point(
    kind: str, name: str, target: str
) -> None:
    module, _, attribute = target.partition(":")
    expected = getattr(importlib.import_module(module), attribute)
    assert plugins.load(kind, f"deepinv_equilibrium:{name}") is expected
    assert name in plugins.names(kind)


@in_one_test("kind", plugins.KINDS)
def test_every_name_has_a_description_of_its_own_in_a_sentence(kind: str) -> None:
    described = plugins.describe(kind)
    assert list(described) == plugins.names(kind)
    for name, text in described.items():
        assert re.fullmatch(r"[A-Z][^`\n]*\.", text), f"{name}: {text}"
        assert ":" not in re.sub(r": \w", "", text), f"{name}: {text}"
        assert text.count("(") == text.count(")"), f"{name}: {text}"
    different = set(described.values())
    # deq-pgd and de-prox, deq-gd and de-grad, deq-admm and de-admm differ in settings.
    assert len(described) - len(different) == (3 if kind == "reconstructors" else 0)


@pytest.mark.usefixtures("installed")
def test_a_component_that_cannot_be_imported_is_described_by_its_error() -> None:
    described = plugins.describe("denoisers")
    assert described["wiener"] == (
        "The posterior mean of smooth Gaussian images in white noise."
    )
    broken = plugins.describe("physics")["broken"]
    assert "Repair, upgrade or uninstall" in broken


def test_name_of_finds_registered_and_installed_names() -> None:
    assert plugins.name_of("solvers", deq.Anderson) == "anderson"
    assert plugins.name_of("solvers", deq.GMRES) is None
    plugins.register("solvers", "own", deq.GMRES)
    assert plugins.name_of("solvers", deq.GMRES) == "own"


@in_one_test("kind", ["losses", "solvers", "linear_solvers", "adjoints"])
def test_create_returns_solvers_adjoints_and_losses(kind: str) -> None:
    required = {"safeguarded": {"proposal": deq.Anderson(), "rate": 0.9}}
    for name in (name for own, name, _ in OWN if own == kind):
        component = plugins.create(kind, name, **required.get(name, {}))
        assert type(component) is plugins.load(kind, name)


def test_create_refuses_a_linear_solver_as_a_solver() -> None:
    plugins.register("solvers", "gmres", deq.GMRES)
    with pytest.raises(plugins.PluginError, match=r"FixedPointSolver, got GMRES"):
        plugins.create("solvers", "gmres")


@pytest.mark.usefixtures("installed")
def test_solver_and_adjoint_of_another_distribution_are_used_and_listed() -> None:
    """A solver or an adjoint takes one file, outside the package too."""
    solver = plugins.create("solvers", "barzilai-borwein", rtol=1e-10)
    adjoint = plugins.create("adjoints", "rate-corrected", rate=0.9)
    y = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64, requires_grad=True)
    solution = deq.fixed_point(
        lambda x: 0.9 * x + y, torch.zeros_like(y), solver, adjoint
    )
    torch.testing.assert_close(solution.x, 10 * y)
    assert bool((solution.iterations <= 3).all())
    solution.x.sum().backward()
    torch.testing.assert_close(y.grad, torch.full_like(y, 10.0))

    for refuse in (
        lambda: deq.fixed_point(lambda x: x, torch.zeros(1, 1), solver=None),
        lambda: deq.Equilibrium(solver=None),
        lambda: deq.Implicit(solver=None),
        lambda: deq.Safeguarded(None, rate=0.5),
    ):
        with pytest.raises(TypeError, match="BarzilaiBorwein"):
            refuse()
    for refuse in (
        lambda: deq.fixed_point(lambda x: x, torch.zeros(1, 1), adjoint=None),
        lambda: deq.Equilibrium(adjoint=None),
    ):
        with pytest.raises(TypeError, match="RateCorrected"):
            refuse()


@pytest.mark.usefixtures("installed")
def test_load_raises_for_a_name_of_two_distributions_and_names_both() -> None:
    names = plugins.names("priors")
    assert [name for name in names if name.endswith("ridge")] == [
        "deq-plugin-colliding:ridge",
        "deq-plugin-example:ridge",
    ]
    with pytest.raises(ValueError, match="Say which") as caught:
        plugins.load("priors", "ridge")
    message = str(caught.value)
    for part in ("deq-plugin-example 1.2", "deq-plugin-colliding 0.3"):
        assert part in message
    for choice in ("deq-plugin-colliding:ridge", "deq-plugin-example:ridge"):
        assert repr(choice) in message


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("spelling", ["deq-plugin-{}", "Deq_Plugin.{}"])
def test_load_takes_the_distribution_before_the_name(spelling: str) -> None:
    for distribution, prior in [
        ("example", dinv.optim.Tikhonov),
        ("colliding", dinv.optim.L1Prior),
    ]:
        name = f"{spelling.format(distribution)}:ridge"
        assert plugins.load("priors", name) is prior
        assert type(plugins.create("priors", name)) is prior


@pytest.mark.usefixtures("installed")
def test_load_names_a_broken_plugin_and_chains_its_error() -> None:
    assert "broken" in plugins.names("physics")
    with pytest.raises(plugins.PluginError) as caught:
        plugins.load("physics", "broken")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    for part in (
        "'broken'",
        "deq_plugin_broken:Physics",
        "deq-plugin-broken 4.5.6",
        "module_that_is_not_installed",
    ):
        assert part in str(caught.value)


@pytest.mark.usefixtures("installed")
def test_load_suggests_a_name_and_lists_the_known_names() -> None:
    with pytest.raises(
        ValueError, match=r"'weiner'.*Did you mean 'wiener'\?"
    ) as caught:
        plugins.load("denoisers", "weiner")
    assert all(repr(name) in str(caught.value) for name in plugins.names("denoisers"))
    with pytest.raises(ValueError, match="Did you mean 'deq-plugin-example:wiener'"):
        plugins.load("denoisers", "deq-plugin-exmaple:wiener")
    with pytest.raises(ValueError, match="'deq-plugin-colliding:wiener'"):
        plugins.load("denoisers", "deq-plugin-colliding:wiener")


def test_load_says_none_if_no_name_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plugins, "_installed", lambda kind: {})
    with pytest.raises(
        ValueError, match=r"'anything' among the priors\. Known: none\."
    ):
        plugins.load("priors", "anything")


@in_one_test(
    "call",
    [
        plugins.names,
        lambda kind: plugins.load(kind, "drunet"),
        lambda kind: plugins.create(kind, "drunet"),
        lambda kind: plugins.register(kind, "mine", torch.nn.Identity),
    ],
)
def test_unknown_kind_raises(call) -> None:
    with pytest.raises(ValueError, match=r"'denoiser'.*Did you mean 'denoisers'\?"):
        call("denoiser")
    with pytest.raises(TypeError, match="kind must be a string, got 3"):
        call(3)


class Scale(dinv.models.Denoiser):
    """Scale the image and ignore the noise level."""

    def __init__(self, factor: float, offset: float = 0.0) -> None:
        super().__init__()
        self.factor = factor
        self.offset = offset

    def forward(self, x: torch.Tensor, sigma: float, **kwargs) -> torch.Tensor:
        return self.factor * x + self.offset


def test_register_makes_a_component_available() -> None:
    plugins.register("denoisers", "scale", Scale)
    assert "scale" in plugins.names("denoisers")
    assert plugins.load("denoisers", "scale") is Scale
    denoiser = plugins.create("denoisers", "scale", factor=3.0)
    assert (denoiser.factor, denoiser.offset) == (3.0, 0.0)
    plugins.register("denoisers", "half", lambda: Scale(0.5))
    assert plugins.create("denoisers", "half").factor == 0.5


def test_create_names_unknown_and_missing_arguments() -> None:
    plugins.register("denoisers", "scale", Scale)
    with pytest.raises(TypeError, match=r"'scale'.*'facto'.*Did you mean 'factor'\?"):
        plugins.create("denoisers", "scale", facto=3.0)
    with pytest.raises(TypeError, match=r"'scale'.*missing.*'factor'.*It takes \(fac"):
        plugins.create("denoisers", "scale")


def test_create_passes_an_error_of_the_component_unchanged() -> None:
    def fail() -> Scale:
        raise TypeError("the component's own complaint")

    plugins.register("denoisers", "failing", fail)
    with pytest.raises(TypeError, match=r"^the component's own complaint$"):
        plugins.create("denoisers", "failing")


def test_create_refuses_a_component_of_another_kind() -> None:
    plugins.register("priors", "scale", Scale)
    with pytest.raises(
        plugins.PluginError, match=r"deepinv\.optim\.prior\.Prior, got Scale"
    ):
        plugins.create("priors", "scale", factor=1.0)


def test_register_refuses_a_taken_name_without_override() -> None:
    with pytest.raises(ValueError, match=r"'drunet'.*deepinv_equilibrium \d.*override"):
        plugins.register("denoisers", "drunet", Scale)
    plugins.register("denoisers", "drunet", Scale, override=True)
    assert plugins.load("denoisers", "drunet") is Scale
    qualified = plugins.load("denoisers", "deepinv_equilibrium:drunet")
    assert qualified is pretrained_drunet
    with pytest.raises(ValueError, match=r"deepinv_equilibrium .* and this process"):
        plugins.register("denoisers", "drunet", Scale)


@pytest.mark.usefixtures("installed")
def test_register_overrides_a_name_of_two_distributions() -> None:
    plugins.register("priors", "ridge", dinv.optim.TVPrior, override=True)
    assert plugins.load("priors", "ridge") is dinv.optim.TVPrior
    assert plugins.load("priors", "deq-plugin-example:ridge") is dinv.optim.Tikhonov


@pytest.mark.parametrize("name", ["", "a:b", ":"])
def test_register_refuses_an_empty_name_and_a_colon(name: str) -> None:
    with pytest.raises(ValueError, match=r"name must not be empty nor have a colon"):
        plugins.register("denoisers", name, Scale)


def test_arguments_of_the_wrong_type_raise() -> None:
    with pytest.raises(TypeError, match="name must be a string, got 3"):
        plugins.register("denoisers", 3, Scale)
    with pytest.raises(TypeError, match="name must be a string, got None"):
        plugins.load("denoisers", None)
    with pytest.raises(TypeError, match=r"factory must be .* got 'Scale'"):
        plugins.register("denoisers", "scale", "Scale")


@given(st.text(min_size=1).filter(lambda name: ":" not in name))
def test_load_finds_exactly_the_listed_names(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "_registered", {kind: {} for kind in plugins.KINDS})
        patch.setattr(plugins, "_installed", lambda kind: {})
        with pytest.raises(ValueError, match="Unknown name") as caught:
            plugins.load("priors", name)
        assert repr(name) in str(caught.value)
        plugins.register("priors", name, Scale)
        assert plugins.names("priors") == [name]
        assert plugins.load("priors", name) is Scale
        assert plugins.names("physics") == []


def test_page_lists_every_kind_with_its_base_class_and_a_name() -> None:
    page = (ROOT / "docs" / "user_guide" / "plugins.rst").read_text("utf-8")
    rows = re.findall(
        r"   \* - ``(\w+)``\n     - :class:`(?:(\w+) <)?.*?(\w+)>?`\n     - ``(.+)``\n",
        page,
    )
    assert [kind for kind, *_ in rows] == list(plugins.KINDS)
    for kind, short, name, component in rows:
        assert (short or name) == plugins._BASE_CLASSES[kind].__name__
        assert component in plugins.names(kind)
