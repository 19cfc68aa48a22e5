"""The matrix product by NumPy against that of torch."""

import pytest
import torch

from phenomena.science import linalg

SIZES = [(1, 1, 1, 1), (1, 5, 3, 4), (7, 12, 40, 1), (7, 1, 9, 6), (3, 10, 5, 10), (40, 8, 8, 8)]  # s, n, d, j


def pair(s, n, d, j, dtype):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(s, *shape, generator=generator, dtype=dtype) for shape in ((n, d), (d, j)))


def rounding(d, dtype):
    """Sums of d products of order one in another order."""
    return {"rtol": 0, "atol": 20 * d * torch.finfo(dtype).eps}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES)
def test_equal_to_torch(size, dtype):
    a, b = pair(*size, dtype)
    product = linalg.matmul(a, b)
    assert product.dtype == dtype
    torch.testing.assert_close(product, torch.bmm(a, b), **rounding(size[2], dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES)
def test_written_into_out(size, dtype):
    a, b = pair(*size, dtype)
    out = torch.full((size[0], size[1], size[3]), torch.nan, dtype=dtype)
    where = out.data_ptr()
    assert linalg.matmul(a, b, out) is out and out.data_ptr() == where
    torch.testing.assert_close(out, torch.bmm(a, b), **rounding(size[2], dtype))


def test_operands_and_out_may_be_transposed_views():
    a, b = pair(4, 6, 5, 3, torch.float64)
    left, right = (t.transpose(1, 2).contiguous().transpose(1, 2) for t in (a, b))
    buffer = torch.zeros(4, 3, 6, dtype=torch.float64)
    linalg.matmul(left, right, buffer.transpose(1, 2))
    torch.testing.assert_close(buffer.transpose(1, 2), torch.bmm(a, b))
    torch.testing.assert_close(linalg.matmul(left, right), torch.bmm(a, b))


def test_whole_numbers_are_exact():
    a, b = (torch.arange(24.0).reshape(shape) for shape in ((2, 3, 4), (2, 4, 3)))
    assert torch.equal(linalg.matmul(a, b), torch.bmm(a, b))
    assert torch.equal(linalg.matmul(torch.eye(4).expand(2, 4, 4), b), b)


def test_the_caller_keeps_the_operands():
    a, b = pair(2, 3, 4, 5, torch.float32)
    before = a.clone(), b.clone()
    linalg.matmul(a, b).zero_()
    assert torch.equal(a, before[0]) and torch.equal(b, before[1])
