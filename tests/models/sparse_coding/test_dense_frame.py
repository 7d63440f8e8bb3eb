"""Frames given by a matrix."""

from __future__ import annotations

import pytest
import torch

from deepinv_equilibrium.models import DenseFrame

from ...certificates.dense_operator import matrix
from .problems import DOUBLE, dense_frame


def test_analysis_and_synthesis_are_the_matrix_and_its_transpose() -> None:
    frame = dense_frame((2, 3, 4), atoms=30)
    M = frame.matrix.detach()
    torch.testing.assert_close(matrix(frame.analysis, (2, 3, 4)), M)
    torch.testing.assert_close(matrix(frame.synthesis, (30,)), M.mT)
    assert frame.synthesis(torch.ones(2, 30, dtype=DOUBLE)).shape == (2, 2, 3, 4)


def test_squared_norm_is_the_largest_singular_value_squared() -> None:
    frame = DenseFrame(torch.diag(torch.tensor([1.0, -3.0, 2.0])))
    assert frame.img_size == (3,)
    torch.testing.assert_close(frame.squared_norm(), torch.tensor(9.0, dtype=DOUBLE))


def test_constructor_copies_the_matrix() -> None:
    matrix = torch.eye(3)
    frame = DenseFrame(matrix)
    with torch.no_grad():
        frame.matrix.zero_()
    assert torch.equal(matrix, torch.eye(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_analysis_and_synthesis_keep_the_precision(dtype: torch.dtype) -> None:
    frame = DenseFrame(torch.eye(3))
    assert frame.synthesis(frame(torch.rand(2, 3, dtype=dtype))).dtype == dtype


def test_constructor_and_analysis_raise_for_bad_input() -> None:
    with pytest.raises(ValueError, match="matrix must be a finite matrix"):
        DenseFrame(torch.full((2, 2), torch.nan))
    with pytest.raises(ValueError, match="matrix must be a finite matrix"):
        DenseFrame(torch.ones(4))
    with pytest.raises(ValueError, match=r"img_size \(1, 2\) has 2 entries, .* for 3"):
        DenseFrame(torch.eye(3), (1, 2))
    with pytest.raises(ValueError, match=r"of shape \(B, \*\(3,\)\), got"):
        DenseFrame(torch.eye(3)).analysis(torch.rand(2, 4))
    for wrong in ([[1.0]], (1, 24, 24), torch.eye(3, dtype=torch.long)):
        with pytest.raises(
            TypeError, match=r"matrix must be a real.* got (list|tuple|t)"
        ):
            DenseFrame(wrong)
