"""Registers the pretended device before autograd starts its threads."""

from __future__ import annotations

from torch.utils import backend_registration

collect_ignore = []
if hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
    from . import pretended  # noqa: F401  its import registers the device
else:  # an older torch
    collect_ignore.append("test_accelerator.py")
