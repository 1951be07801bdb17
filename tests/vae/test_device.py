"""The device is the one that was asked for, or an error that says what to install."""

from __future__ import annotations

import shutil

import pytest
import torch

from napari_vae_repair.errors import DeviceError, DeviceMemoryError
from napari_vae_repair.vae.device import Device, choose_device, memory_released

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
CPU = Device("cpu", "CPU", None)


@needs_no_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_cuda_without_a_gpu_is_an_error_that_says_what_to_install(name: str) -> None:
    with pytest.raises(DeviceError, match=r"pytorch\.org"):
        choose_device(name)


@needs_no_gpu
def test_a_driver_beside_a_cpu_build_gives_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "CUDA build" in choose_device("auto").hint
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert choose_device("cpu").hint == ""


@pytest.mark.parametrize("name", ["tpu", "gpu", "cuda:x", "", "CPU"])
def test_an_unknown_name_is_an_error_and_never_the_cpu(name: str) -> None:
    with pytest.raises(DeviceError, match="no device"):
        choose_device(name)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="an Apple GPU is there")
def test_mps_elsewhere_is_an_error() -> None:
    with pytest.raises(DeviceError, match="Apple"):
        choose_device("mps")


def test_bfloat16_is_chosen_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for features, expected in (
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({}, None),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda features=features: features, raising=False)
        assert choose_device("cpu").autocast is expected


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_exhausted_memory_says_what_to_do(error: Exception) -> None:
    with pytest.raises(DeviceMemoryError, match="tile_px") as caught, memory_released(CPU):
        raise error
    assert caught.value.__context__ is error
    assert error.__traceback__ is None  # its frames would keep the tensors alive


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="something else"), memory_released(CPU):
        raise RuntimeError("something else")
