"""PyTorch tensors as memory. PyTorch is imported by its users only."""

from __future__ import annotations

from typing import Any


def as_bytes(tensor: Any) -> Any:
    """Returns an array of bytes that shares the memory of a contiguous tensor."""
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"a bytes-like object or a tensor is required, not {type(tensor).__name__!r}")
    if tensor.device.type != "cpu":
        raise ValueError(f"a tensor on {tensor.device} cannot be read into: use one on the CPU, then copy it")
    if not tensor.is_contiguous():
        raise BufferError("the tensor is not contiguous")
    return tensor.detach().reshape(-1).view(torch.uint8).numpy()
