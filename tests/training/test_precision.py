"""`enable_amp` and `float32_matmul_precision`, as far as they can be told without a GPU."""

import logging

import pytest
import torch
from small_data import small_options

from recbole_hstu.quick_start import run
from recbole_hstu.training.precision import set_precision

FLOAT16, BFLOAT16 = torch.float16, torch.bfloat16


@pytest.fixture(autouse=True)
def torch_as_before():
    yield
    torch.set_float32_matmul_precision("highest")
    torch.set_autocast_dtype("cuda", FLOAT16)


def asked(device="cuda", enable_amp=True, enable_scaler=False):
    config = {"float32_matmul_precision": "high", "device": torch.device(device)}
    return config | {"enable_amp": enable_amp, "enable_scaler": enable_scaler}


@pytest.mark.parametrize(
    ("bfloat16", "options", "expected", "warns"),
    [
        (True, {}, BFLOAT16, False),
        (True, {"enable_amp": False}, FLOAT16, False),
        (True, {"device": "cpu"}, FLOAT16, False),
        (False, {}, FLOAT16, True),
        (False, {"enable_scaler": True}, FLOAT16, False),
    ],
)
def test_a_gpu_takes_bfloat16_if_it_has_it(bfloat16, options, expected, warns, monkeypatch, caplog):
    def supported(*, including_emulation):
        return bfloat16 or including_emulation

    monkeypatch.setattr("torch.cuda.is_bf16_supported", supported)
    with caplog.at_level(logging.WARNING):
        set_precision(asked(**options))
    assert torch.get_autocast_dtype("cuda") == expected
    assert torch.get_float32_matmul_precision() == "high"
    assert ("use --enable_scaler=True" in caplog.text) == warns


def test_a_run_sets_it(toy):
    run("HSTU", "toy", config_dict=small_options(float32_matmul_precision="medium"))
    assert torch.get_float32_matmul_precision() == "medium"
