"""The device is the one that was asked for, or an error that says what to install."""

from __future__ import annotations

import copy
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from napari_vae_repair.errors import Cancelled, DeviceError, DeviceMemoryError
from napari_vae_repair.vae.device import (
    Device,
    choose_device,
    look_before_layers,
    memory_released,
    on_device,
    stopping_between_layers,
)
from napari_vae_repair.vae.starter import load_starter

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


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.GELU(), nn.Conv2d(3, 2, 3))


def test_a_network_is_copied_only_where_it_must_be_laid_out_anew() -> None:
    cpu, network = CPU, small()
    copied = on_device(network, cpu)
    assert copied is not network
    assert network[0].weight.is_contiguous()
    assert copied[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert on_device(copied, cpu) is copied
    for module in load_starter().parts().values():
        assert on_device(module, cpu) is module


def test_a_wish_to_stop_ends_a_pass_of_its_own_thread_alone() -> None:
    network, image = small(), torch.zeros(1, 2, 8, 8)
    look_before_layers(network)
    copied = pickle.loads(pickle.dumps(copy.deepcopy(network)))
    with stopping_between_layers(lambda: True):
        for each in (network, copied):
            with pytest.raises(Cancelled):
                each(image)
        with ThreadPoolExecutor(1) as elsewhere:
            assert elsewhere.submit(network, image).result().shape == (1, 2, 4, 4)
        with stopping_between_layers(lambda: False):
            network(image)
    network(image)
