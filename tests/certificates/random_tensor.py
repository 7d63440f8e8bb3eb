"""A random tensor that depends on nothing but its seed."""

import torch


def random(seed, *shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)
