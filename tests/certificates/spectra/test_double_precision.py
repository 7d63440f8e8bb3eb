import torch
from deepinv.physics import (
    BlurFFT,
    Denoising,
    GaussianNoise,
    Inpainting,
    LinearPhysics,
    Tomography,
    stack,
)

from deepinv_equilibrium.certificates.spectra.double_precision import double_copy
from deepinv_equilibrium.physics import ChannelwiseBlur


def test_double_copy_includes_the_phase_of_a_blur_fft():
    physics = BlurFFT(img_size=(1, 6, 6), filter=torch.rand(1, 1, 3, 2))
    copy = double_copy(physics)
    x = torch.rand(1, 1, 6, 6)
    assert copy.angle.dtype == torch.complex128
    assert copy.A(x.double()).dtype == torch.float64
    torch.testing.assert_close(copy.A(x.double()).float(), physics.A(x))
    assert physics.filter.dtype == torch.float32


def test_double_copy_copies_generators_graphs_and_stacks():
    noise = GaussianNoise(0.1, rng=torch.Generator().manual_seed(0))
    weight = torch.rand(1, 1, 3, 3, requires_grad=True)
    blur = ChannelwiseBlur(2 * weight)  # a tensor with a graph
    mask = torch.nn.Parameter(torch.rand(1, 1, 4, 4))
    physics = stack(Denoising(noise), blur, Inpainting(img_size=(1, 4, 4), mask=mask))
    copy = double_copy(physics)
    for part in (copy[1].filter, copy[2].mask):
        assert part.dtype == torch.float64
        assert not part.requires_grad
    assert physics[1].filter.requires_grad
    copy[2].mask.zero_()
    assert float(mask.detach().sum()) > 0
    y = copy.A(torch.rand(1, 1, 4, 4, dtype=torch.float64))
    assert [part.dtype for part in y] == [torch.float64] * 3


def test_double_copy_of_tomography_has_its_own_adjoint():
    physics = Tomography(angles=3, img_width=6, normalize=False)
    y = physics.A(torch.rand(1, 1, 6, 6))
    physics.A_adjoint(y)
    copy = double_copy(physics)
    assert copy.A_adjoint(y.double()).dtype == torch.float64


def test_double_copy_differentiates_the_adjoint_in_float64():
    physics = LinearPhysics(A=lambda x, **_: x.roll(1, -1) / 3, img_size=(1, 4, 4))
    x = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    adjoint = double_copy(physics).A_adjoint(x)
    torch.testing.assert_close(adjoint, x.roll(-1, -1) / 3, rtol=1e-14, atol=0)
