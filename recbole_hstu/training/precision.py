"""What `float32_matmul_precision` and RecBole's `enable_amp` mean for torch."""

from __future__ import annotations

from logging import getLogger

import torch

from recbole_hstu.support.settings import Settings


def set_precision(config: Settings) -> None:
    """Of float32 products, and of autocast: bfloat16 on GPUs that have it, as on CPUs.

    RecBole takes torch's default for GPUs, float16, whose range small gradients leave: without
    `enable_scaler` they are lost. The trainer of NCL names float16 itself, and keeps it.
    """
    torch.set_float32_matmul_precision(config["float32_matmul_precision"])
    if not config["enable_amp"] or config["device"].type != "cuda":
        return
    if torch.cuda.is_bf16_supported(including_emulation=False):
        torch.set_autocast_dtype("cuda", torch.bfloat16)
    elif not config["enable_scaler"]:
        getLogger().warning(
            "enable_amp: this GPU has no bfloat16, and float16 loses small gradients; use "
            "--enable_scaler=True with it"
        )
