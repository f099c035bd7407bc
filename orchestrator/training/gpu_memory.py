"""How much of its GPU a trial has taken at most."""

from __future__ import annotations

import torch


def forget_peak() -> None:
    """Begin to measure; a process trains one trial after another."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak() -> dict[str, list[int]]:
    """``gpu_memory``: bytes that PyTorch held at most since then, and the GPU's; nothing of a
    process that used none."""
    if not torch.cuda.is_initialized():
        return {}
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return {"gpu_memory": [torch.cuda.max_memory_reserved(), total]}
