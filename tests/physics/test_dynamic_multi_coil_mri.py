from __future__ import annotations

import copy

import deepinv as dinv
import pytest
import torch
from deepinv.physics import DynamicMRI, GaussianNoise, MultiCoilMRI

import deepinv_equilibrium as deq
from deepinv_equilibrium.physics import DynamicMultiCoilMRI, birdcage_coil_maps

from ..one_test import in_one_test


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def complex_random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.complex(random(*shape, seed=seed), random(*shape, seed=seed + 100))


def binary(*shape: int, seed: int = 0) -> torch.Tensor:
    return (random(*shape, seed=seed) > 0).double()


MASKS = [
    (5, 7),
    (3, 5, 7),
    (1, 3, 5, 7),
    (2, 3, 5, 7),
    (1, 1, 3, 5, 7),
    (2, 2, 3, 5, 7),
]
MAPS = [(5, 7), (4, 5, 7), (1, 4, 5, 7), (2, 4, 5, 7), (1, 4, 3, 5, 7), (2, 4, 3, 5, 7)]


@in_one_test("mask", MASKS)
@in_one_test("maps", MAPS)
def test_adjoint_is_exact(mask, maps) -> None:
    physics = DynamicMultiCoilMRI(random(*mask), complex_random(*maps, seed=1))
    x = random(2, 2, 3, 5, 7, seed=2)
    y = physics.A(x)
    coils = 1 if len(maps) == 2 else 4
    assert y.shape == (2, 2, coils, 3, 5, 7)
    v = random(*y.shape, seed=3)
    gap = (y * v).sum() - (x * physics.A_adjoint(v)).sum()
    assert abs(gap) < 1e-12 * y.norm() * v.norm()


def test_each_frame_equals_multicoil_mri() -> None:
    mask, maps = random(2, 2, 3, 4, 5), complex_random(2, 3, 3, 4, 5, seed=1)
    x = random(2, 2, 3, 4, 5, seed=2)
    y = DynamicMultiCoilMRI(mask, maps).A(x)
    for b in range(2):
        for t in range(3):
            frame = MultiCoilMRI(mask[b, :, t], maps[b, :, t])
            torch.testing.assert_close(
                y[b : b + 1, :, :, t], frame.A(x[b : b + 1, :, t])
            )


def test_one_uniform_coil_equals_dynamic_mri_of_deepinv() -> None:
    mask, x = binary(3, 5, 6), random(2, 2, 3, 5, 6, seed=1)
    physics, single = DynamicMultiCoilMRI(mask), DynamicMRI(mask=mask)
    y = single.A(x)
    torch.testing.assert_close(physics.A(x)[:, :, 0], y)
    torch.testing.assert_close(physics.A_adjoint(y[:, :, None]), single.A_adjoint(y))


def test_constant_mask_equals_multicoil_mri_of_deepinv() -> None:
    mask, maps = binary(5, 6), complex_random(3, 5, 6, seed=1)
    x = random(2, 2, 4, 5, 6)
    physics, static = DynamicMultiCoilMRI(mask, maps), MultiCoilMRI(mask, maps)
    y = physics.A(x)
    for t in range(4):
        torch.testing.assert_close(y[:, :, :, t], static.A(x[:, :, t]))
        torch.testing.assert_close(
            physics.A_adjoint(y, rss=True)[:, :, t],
            static.A_adjoint(y[:, :, :, t], rss=True),
        )


def test_without_mask_everything_is_sampled() -> None:
    physics = DynamicMultiCoilMRI(coil_maps=3, img_size=(2, 4, 6, 5))
    assert torch.equal(physics.mask, torch.ones(1, 2, 4, 6, 5))
    assert torch.equal(physics.coil_maps[0, :, 0], birdcage_coil_maps(3, (6, 5)))
    x = random(1, 2, 4, 6, 5, dtype=torch.float32)
    torch.testing.assert_close(physics.A_adjoint(physics.A(x)), x)


def test_boolean_mask_becomes_zeros_and_ones() -> None:
    mask = binary(3, 5, 6).bool()
    physics = DynamicMultiCoilMRI(mask)
    assert torch.equal(physics.mask[0, 1], mask.float())
    physics.update(mask=0.5 * torch.ones(5, 6))
    assert torch.equal(physics.mask, torch.full((1, 2, 1, 5, 6), 0.5))


@in_one_test("dtype", [torch.float32, torch.float64])
@in_one_test("maps", [torch.complex64, torch.complex128])
def test_results_have_dtype_of_image(dtype, maps) -> None:
    physics = DynamicMultiCoilMRI(
        binary(3, 5, 6), complex_random(2, 5, 6).to(maps), noise_model=GaussianNoise()
    )
    x = random(1, 2, 3, 5, 6, dtype=dtype)
    y = physics(x)
    assert y.dtype == physics.A_adjoint(y).dtype == dtype
    assert physics.A_adjoint(y, rss=True).dtype == dtype


def test_maps_keep_their_phase_in_another_precision() -> None:
    maps = complex_random(3, 5, 6).to(torch.complex64)
    physics = DynamicMultiCoilMRI(torch.ones(2, 5, 6), maps).to(torch.float64)
    assert physics.coil_maps.dtype == torch.complex128
    assert torch.equal(physics.coil_maps[0, :, 0], maps.to(torch.complex128))
    assert physics.mask.dtype == torch.float64
    assert torch.equal(physics.float().coil_maps[0, :, 0], maps)


def test_a_dagger_and_prox_l2_satisfy_optimality_conditions() -> None:
    maps = complex_random(6, 8, 9, seed=1)
    physics = DynamicMultiCoilMRI(binary(3, 8, 9), maps, max_iter=500, tol=1e-10)
    y = random(2, 2, 6, 3, 8, 9)
    x = physics.A_dagger(y)
    normal = physics.A_adjoint(physics.A(x) - y)
    assert normal.norm() < 1e-6 * physics.A_adjoint(y).norm()
    z = random(2, 2, 3, 8, 9, seed=1)
    x = physics.prox_l2(z, y, 0.7)
    gradient = 0.7 * physics.A_adjoint(physics.A(x) - y) + x - z
    assert gradient.norm() < 1e-6 * z.norm()


def test_call_and_update_replace_mask_and_maps() -> None:
    physics = DynamicMultiCoilMRI(torch.ones(3, 5, 6), 2).to(torch.float64)
    x = random(1, 2, 3, 5, 6)
    mask, maps = binary(3, 5, 6), complex_random(4, 5, 6)
    expected = DynamicMultiCoilMRI(mask, maps).A(x)
    torch.testing.assert_close(physics(x, mask=mask, coil_maps=maps), expected)
    torch.testing.assert_close(physics(x), expected)
    physics.update(mask=torch.ones(5, 6))
    physics.update(coil_maps=complex_random(2, 4, 3, 5, 6))
    assert physics.mask.shape == (1, 2, 1, 5, 6)
    assert physics.img_size == (2, 1, 5, 6)
    physics.update(mask=binary(3, 7, 8), coil_maps=complex_random(1, 7, 8))
    assert physics.A(random(1, 2, 3, 7, 8)).shape == (1, 2, 1, 3, 7, 8)


def test_each_sample_has_its_own_mask_from_generator() -> None:
    masks = dinv.physics.generator.RandomMaskGenerator(
        (2, 3, 8, 12), acceleration=3, rng=torch.Generator().manual_seed(0)
    )
    physics = DynamicMultiCoilMRI(coil_maps=4, img_size=(2, 3, 8, 12))
    params = masks.step(batch_size=2)
    x = random(2, 2, 3, 8, 12, dtype=torch.float32)
    y = physics(x, **params)
    for b in range(2):
        alone = DynamicMultiCoilMRI(params["mask"][b : b + 1], 4)
        torch.testing.assert_close(y[b : b + 1], alone(x[b : b + 1]))


def test_noise_is_added_to_sampled_entries_and_not_weighted_by_mask() -> None:
    mask = 0.5 * binary(3, 16, 16)
    physics = DynamicMultiCoilMRI(mask, 2, noise_model=GaussianNoise(0.1))
    x = random(4, 2, 3, 16, 16)
    noise = physics(x) - physics.A(x)
    sampled = (mask != 0).expand_as(noise)
    assert (noise[~sampled] == 0).all()
    assert float(noise[sampled].std()) == pytest.approx(0.1, rel=0.02)


def test_physics_is_differentiable_in_image_mask_and_maps() -> None:
    physics = DynamicMultiCoilMRI(torch.ones(2, 3, 2), 2).to(torch.float64)

    def normal(x, mask, maps):
        physics.update_parameters(mask=mask, coil_maps=maps)
        return physics.A_adjoint(physics.A(x))

    leaves = (random(1, 2, 2, 3, 2), random(2, 3, 2), complex_random(2, 3, 2))
    assert torch.autograd.gradcheck(
        normal, tuple(leaf.requires_grad_() for leaf in leaves)
    )


def test_copied_and_loaded_physics_measures_the_same() -> None:
    physics = DynamicMultiCoilMRI(binary(3, 5, 6), 2)
    x = random(1, 2, 3, 5, 6)
    fresh = DynamicMultiCoilMRI(torch.zeros(3, 5, 6), 2)
    fresh.load_state_dict(physics.state_dict())
    for other in (copy.deepcopy(physics), physics.clone(), fresh):
        torch.testing.assert_close(other.A(x), physics.A(x))


def test_static_mri_has_maximum_of_masks_or_given_mask() -> None:
    mask, maps = binary(3, 5, 6), complex_random(2, 5, 6)
    static = DynamicMultiCoilMRI(mask, maps).to_static()
    x = random(1, 2, 5, 6)
    torch.testing.assert_close(static.A(x), MultiCoilMRI(mask.amax(0), maps).A(x))
    chosen = DynamicMultiCoilMRI(mask, maps).to_static(mask[0])
    torch.testing.assert_close(chosen.A(x), MultiCoilMRI(mask[0], maps).A(x))
    with pytest.raises(ValueError, match="coil_maps change in time"):
        DynamicMultiCoilMRI(mask, complex_random(1, 2, 3, 5, 6)).to_static()


@in_one_test("maps", [(2, 3, 2), (2, 2, 3, 2), (2, 2, 2, 3, 2)])
@in_one_test("sampled", [True, False])
def test_spectrum_bounds_dense_singular_values(maps, sampled: bool) -> None:
    mask = torch.ones(2, 3, 2).double() if sampled else random(2, 3, 2)
    physics = DynamicMultiCoilMRI(mask, complex_random(*maps))
    interval = deq.spectrum(physics, (2, 2, 3, 2))
    batch = 2 if len(maps) > 3 else 1
    basis = torch.eye(24, dtype=torch.float64).reshape(24, 1, 2, 2, 3, 2)
    columns = [
        physics.A(impulse.expand(batch, -1, -1, -1, -1)).flatten(1) for impulse in basis
    ]
    values = torch.linalg.svdvals(torch.stack(columns, dim=-1)).square()
    smallest, largest = float(values.min()), float(values.max())
    assert interval.kind is deq.certificates.Kind.CERTIFIED
    assert interval.upper.value >= largest
    assert interval.lower.value <= smallest + 1e-14 * largest
    if sampled:
        assert interval.upper.value <= (1 + 1e-11) * largest
        assert interval.lower.value >= (1 - 1e-11) * smallest


def test_spectrum_combines_mask_and_maps_of_the_same_frame() -> None:
    weights = torch.tensor([0.5, 2.0]).double()[:, None, None]
    mask = weights.expand(2, 3, 2)
    maps = (1 / weights).expand(1, 1, 2, 3, 2) + 0j
    upper = deq.spectrum(DynamicMultiCoilMRI(mask, maps), (2, 2, 3, 2)).upper
    assert upper.value == pytest.approx(1, rel=1e-11)


@in_one_test(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "give a mask, or img_size"),
        ({"mask": torch.ones(5)}, ValueError, r"mask must have shape.*\(5,\)"),
        ({"mask": torch.ones(3, 2, 5, 6)}, ValueError, r"got \(3, 2, 5, 6\)"),
        ({"mask": torch.ones(5, 6) + 0j}, TypeError, "mask must be real"),
        (
            {"mask": torch.ones(3, 5, 6), "coil_maps": torch.ones(2, 5, 6)},
            TypeError,
            r"coil_maps must be a complex tensor, got torch\.float32",
        ),
        (
            {"mask": torch.ones(3, 5, 6), "coil_maps": torch.ones(2, 6, 5) + 0j},
            ValueError,
            r"mask, completed to \(1, 2, 3, 5, 6\), and coil_maps.*\(1, 2, 1, 6, 5\)",
        ),
        (
            {"mask": torch.ones(3, 5, 6), "coil_maps": torch.ones(1, 1, 2, 5, 6) + 0j},
            ValueError,
            "the same B and T where those are not 1",
        ),
        ({"mask": torch.ones(3, 5, 6), "coil_maps": 0}, ValueError, "coils=0"),
    ],
)
def test_bad_constructor_arguments_are_refused(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        DynamicMultiCoilMRI(**arguments)


def test_bad_update_is_refused_and_changes_nothing() -> None:
    physics = DynamicMultiCoilMRI(torch.ones(3, 5, 6), 2)
    with pytest.raises(ValueError, match="in one call of update"):
        physics.update(mask=torch.ones(3, 6, 6))
    with pytest.raises(TypeError, match="complex tensor, got int"):
        physics.update(coil_maps=3)
    assert physics.mask.shape == (1, 2, 3, 5, 6)


@in_one_test(
    ("x", "error", "message"),
    [
        (torch.ones(1, 2, 5, 6), ValueError, r"x must have shape \(B, 2, T, H, W\)"),
        (torch.ones(1, 1, 3, 5, 6), ValueError, r"\(any, 2, 3, 5, 6\).*\(1, 1, 3, 5"),
        (torch.ones(1, 2, 4, 5, 6), ValueError, r"got \(1, 2, 4, 5, 6\)"),
        (torch.ones(1, 2, 3, 5, 7), ValueError, r"got \(1, 2, 3, 5, 7\)"),
        (torch.ones(1, 2, 3, 5, 6) + 0j, TypeError, r"x must be float32 or float64"),
        (torch.ones(1, 2, 3, 5, 6).half(), TypeError, r"got torch\.float16"),
    ],
)
def test_image_of_wrong_shape_or_type_is_refused(x, error, message) -> None:
    with pytest.raises(error, match=message):
        DynamicMultiCoilMRI(torch.ones(3, 5, 6), 2)(x)


@pytest.mark.parametrize(
    "shape", [(1, 2, 3, 3, 5, 6), (1, 2, 3, 5, 6), (3, 2, 2, 3, 5, 6)]
)
def test_measurement_of_wrong_shape_is_refused(shape) -> None:
    physics = DynamicMultiCoilMRI(torch.ones(2, 2, 3, 5, 6), 2)
    with pytest.raises(ValueError, match=r"y must have.*\(2, 2, 2, 3, 5, 6\)"):
        physics.A_adjoint(torch.ones(shape))
