"""The examples that readers copy, run as they stand."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium
import deepinv_equilibrium as deq

ROOT = Path(__file__).parents[1]
GUIDE = sorted((ROOT / "docs" / "user_guide").glob("*.rst"))
FINDER = doctest.DocTestFinder()
# Modules with examples, by name.
MODULES = [
    module.name
    for module in pkgutil.walk_packages(
        deepinv_equilibrium.__path__, "deepinv_equilibrium."
    )
    if ">>> "
    in Path(module.module_finder.find_spec(module.name).origin).read_text("utf-8")
]


def test_readme_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # Trainer writes its checkpoints here
    example, training, certified = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL
    )
    for long, short in (
        ("layers=10, restarts=10", "layers=2, restarts=4"),
        ("img_size=128", "img_size=64"),
    ):
        assert long in example
        example = example.replace(long, short)
    assert "crops=64" in training
    training = training.replace("crops=64", "crops=4")
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)

    model, x, x_hat = names["model"], names["x"], names["x_hat"]
    assert isinstance(model, dinv.optim.PGD)
    assert isinstance(x, torch.Tensor)
    assert isinstance(x_hat, torch.Tensor)
    physics = names["physics"]
    assert isinstance(physics, dinv.physics.LinearPhysics)
    psnr = dinv.metric.PSNR()
    assert psnr(x_hat, x).item() > psnr(physics.A(x), x).item()
    printed = capsys.readouterr().out
    assert "COMPLETED" in printed
    assert "a SmallDRUNet cannot be certified" in " ".join(printed.split())

    # The others go on with the model and the physics of the first.
    before = [p.clone() for p in model.params_algo.parameters()]
    exec(compile(training, "README.md", "exec"), names)
    after = model.params_algo.parameters()
    assert not any(map(torch.equal, before, after))
    capsys.readouterr()
    exec(compile(certified, "README.md", "exec"), names)
    certificate = names["certificate"]
    assert isinstance(certificate, deq.certificates.Certificate)
    assert certificate.contracts
    assert capsys.readouterr().out.count("certified") == 2


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_user_guide(page: Path) -> None:
    failed, _ = doctest.testfile(str(page), module_relative=False)
    assert failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str) -> None:
    found = FINDER.find(importlib.import_module(name), name)
    examples = [test for test in found if test.examples]
    assert examples
    runner = doctest.DocTestRunner()
    for test in examples:
        runner.run(test)
    assert runner.failures == 0
