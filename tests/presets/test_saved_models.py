"""Models in one file: what is written, made again and refused."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.presets import SavedModelError

from ..one_test import in_one_test
from ..testing.named_components import model_arguments


def create(name: str, **arguments: Any) -> Any:
    return deq.plugins.create("reconstructors", name, **arguments)


def trained(model: Any) -> Any:
    """The model with other weights and parameters, as after a training."""
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(1e-3 * (number + 1) * parameter.abs().mean() + 1e-4)
    return model


MODELS: dict[str, Callable[[], Any]] = {
    "by name": lambda: create(
        "retune-pgd", denoiser="small-drunet", layers=2, restarts=3
    ),
    "module": lambda: create(
        "deq-pgd",
        denoiser=deq.plugins.create("denoisers", "small-drunet", in_channels=1),
        solver=deq.Broyden(history_size=4),
        adjoint=deq.Implicit(deq.CGNR(rtol=1e-2)),
        stepsize=[0.8, 0.9],
        layers=2,
        on_failure="ignore",
    ),
    "certified": lambda: create("certified-deq-pgd", contraction=0.9, in_channels=1),
    "safeguarded": lambda: create(
        "certified-deq-pgd",
        solver=deq.Safeguarded(
            deq.Anderson(history_size=3), deq.certificates.Bound(0.99, source="proved")
        ),
    ),
    "TV map": lambda: create("tv-map", directions=(0, 1), DEQ=deq.ReTune(2, 3)),
    "tensor": lambda: create("wavelet", channels=1, levels=2),
}


@pytest.mark.parametrize("name", MODELS)
def test_loaded_model_reconstructs_the_same(name: str, tmp_path: Path):
    model = trained(MODELS[name]())
    if name == "by name":
        model.DEQ = deq.Equilibrium(deq.Anderson(rtol=1e-3), deq.JacobianFree())
        model.eval()
    deq.save(model, tmp_path / "model.pt")
    loaded = deq.load(tmp_path / "model.pt")
    assert type(loaded) is type(model)
    assert loaded.DEQ == model.DEQ
    assert loaded.training is model.training
    for (key, value), (other, again) in zip(
        model.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert key == other
        assert torch.equal(value, again) if torch.is_tensor(value) else value == again
    channels = 3 if name in ("by name", "safeguarded") else 1
    y = torch.rand(2, channels, 16, 16)
    physics = dinv.physics.Denoising()
    with torch.no_grad():
        assert torch.equal(model(y, physics), loaded(y, physics))
    # A loaded model can be saved again, and a certificate holds for both.
    deq.save(loaded, tmp_path / "again.pt")
    if name == "certified":
        certificate = deq.certify(model, physics, (channels, 16, 16))
        assert certificate.holds_for(loaded, physics)


IMAGE = (1, 16, 16)
NAMES = [n for n in deq.plugins.names("reconstructors") if n in model_arguments(IMAGE)]


def by_name(value: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module as a component that has a name in the registry."""
    kinds = (
        ("denoisers", dinv.models.Denoiser),
        ("priors", dinv.optim.Prior),
        ("physics", dinv.physics.Physics),
    )
    for kind, base in kinds:
        if isinstance(value, base):
            named = {"of the test": lambda: copy.deepcopy(value)}
            monkeypatch.setitem(deq.plugins._registered, kind, named)
            return deq.plugins.create(kind, "of the test")
    return value


@in_one_test("name", [n for n in NAMES if "ista" not in n])
def test_every_named_model_comes_back(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    arguments = {
        key: by_name(value, monkeypatch)
        for key, value in model_arguments(IMAGE)[name].items()
    }
    model = trained(create(name, **arguments))
    deq.save(model, tmp_path / "model.pt")  # compares the digests of both
    loaded = deq.load(tmp_path / "model.pt")
    for value, again in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(value, again)


def test_precision_and_other_components_are_kept(tmp_path: Path):
    denoiser = deq.plugins.create("denoisers", "convex-potential", in_channels=1)
    deq.save(denoiser.double(), tmp_path / "denoiser.pt")
    loaded = deq.load(tmp_path / "denoiser.pt")
    assert {p.dtype for p in loaded.parameters()} == {torch.float64}
    x = torch.rand(1, 1, 9, 9, dtype=torch.float64)
    assert torch.equal(loaded(x, 0.1), denoiser(x, 0.1))


def test_a_model_of_ones_own_is_saved_by_the_function_that_builds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        deq.plugins, "_registered", copy.deepcopy(deq.plugins._registered)
    )

    def build(width: int, mask: torch.Tensor) -> Any:
        model = create("deq-pgd", denoiser="bounded-dncnn", in_channels=width)
        model.register_buffer("mask", mask)
        return model

    deq.plugins.register("reconstructors", "mine", build)
    mask = torch.rand(4)
    model = trained(create("mine", width=1, mask=mask))
    deq.save(model, tmp_path / "mine.pt")
    assert torch.equal(deq.load(tmp_path / "mine.pt").mask, model.mask)
    deq.plugins._registered["reconstructors"].pop("mine")
    with pytest.raises(SavedModelError, match="Unknown name 'mine'"):
        deq.load(tmp_path / "mine.pt")


def edited(attribute: str) -> Any:
    model = create("certified-deq-pgd", in_channels=1)
    if attribute == "hook":
        model.prior[0].denoiser.register_forward_hook(lambda *_: None)
    elif attribute == "layer":
        model.prior[0].denoiser.scale = 2.0
    elif attribute == "initialisation":
        model.custom_init = lambda y, physics: {"est": (y,)}
    return model


@in_one_test("attribute", ["hook", "layer", "initialisation"])
def test_changes_that_the_file_would_lose_are_refused(attribute: str):
    with pytest.raises(ValueError, match=r"the model differs .* register"):
        deq.save(edited(attribute), Path("never.pt"))
    assert not list(Path().glob("never.pt*"))


class Own(deq.Picard):
    """A solver without a name."""


def test_what_cannot_be_written_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "model.pt"
    with pytest.raises(TypeError, match="model must be a torch module, got int"):
        deq.save(1, path)  # type: ignore[arg-type]
    pgd = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(deq.models.SmallDRUNet()),
        sigma_denoiser=0.1,
        DEQ=deq.Equilibrium(),
    )
    for model in (pgd, copy.deepcopy(create("certified-deq-pgd"))):
        with pytest.raises(ValueError, match=r"plugins\.create did not make"):
            deq.save(model, path)
    known = create("deq-pgd", denoiser=deq.models.SmallDRUNet())
    remedy = r"plugins\.create\('denoisers', 'small-drunet', \.\.\.\).*load_state_dict"
    with pytest.raises(
        ValueError, match=rf"model\.denoiser is a SmallDRUNet.*{remedy}"
    ):
        deq.save(known, path)
    foreign = create("deq-pgd", denoiser=dinv.models.DRUNet(pretrained=None))
    with pytest.raises(ValueError, match=r"model\.denoiser is a DRUNet that plugins"):
        deq.save(foreign, path)
    with pytest.raises(TypeError, match=r"model\.solver is a Own.*register"):
        deq.save(create("certified-deq-pgd", solver=Own()), path)
    assert not path.exists()


class Payload:
    def __reduce__(self) -> Any:
        return (Path("payload-was-run").touch, ())


def test_damaged_foreign_and_malicious_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    deq.save(create("wavelet", channels=1, levels=1), "model.pt")
    whole = Path("model.pt").read_bytes()
    Path("short.pt").write_bytes(whole[: len(whole) // 2])
    Path("text.pt").write_text("not a model")
    Path("pickle.pt").write_bytes(pickle.dumps(Payload(), protocol=2))
    torch.save({"weights": Payload()}, "payload.pt")
    for name in ("short", "text", "pickle", "payload"):
        with pytest.raises(SavedModelError, match="cannot be read as a saved model"):
            deq.load(f"{name}.pt")
    assert not Path("payload-was-run").exists()
    torch.save({"state_dict": {}}, "checkpoint.pt")
    with pytest.raises(
        SavedModelError, match=r"not a model that deq\.save has written"
    ):
        deq.load("checkpoint.pt")
    content = torch.load("model.pt", weights_only=True)
    content["weights"].popitem()
    torch.save(content, "older.pt")
    with pytest.raises(
        SavedModelError, match=r"(?s)cannot be made: .*deepinv_equilibrium"
    ):
        deq.load("older.pt")
    with pytest.raises(FileNotFoundError):
        deq.load("nowhere.pt")


def test_a_failure_leaves_the_older_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "model.pt"
    model = create("wavelet", channels=1, levels=1)
    deq.save(model, path)
    before = path.read_bytes()

    def fails(content: Any, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match="no space left"):
        deq.save(trained(model), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_origin_goes_with_its_component_and_keeps_its_arguments():
    sizes = [0.8, 0.9]
    model = create("certified-deq-pgd", stepsize=sizes, layers=2)
    sizes.append(7.0)
    origin = deq.plugins.origin(model)
    assert origin is not None
    assert (origin.kind, origin.name) == ("reconstructors", "certified-deq-pgd")
    assert origin.arguments["stepsize"] == [0.8, 0.9]
    assert deq.plugins.origin(torch.nn.Identity()) is None
    key = id(model)
    del model
    gc.collect()
    assert key not in deq.plugins._origins
