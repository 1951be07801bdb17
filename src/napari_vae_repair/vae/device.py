"""CUDA, MPS or CPU: choice, precision, layout, and memory given back."""

from __future__ import annotations

import contextlib
import copy
import gc
import re
import shutil
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from napari_vae_repair.errors import Cancelled, DeviceError, DeviceMemoryError
from napari_vae_repair.settings import DEVICE_PATTERN

CUDA_HINT = (
    "An NVIDIA driver is present, but this PyTorch is a CPU build: install a CUDA build "
    "(see pytorch.org/get-started) to use the GPU."
)
_Step = TypeVar("_Step")
_Result = TypeVar("_Result")
_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Device:
    """Where and how to compute.

    Attributes
    ----------
    name : str
        "cpu", "mps" or "cuda:0".
    label : str
        For people: the GPU's name or "CPU, 8 threads".
    autocast : torch.dtype or None
        16-bit type of convolutions, None = float32 throughout.
    hint : str
        What the user could install for more speed, or "".
    """

    name: str
    label: str
    autocast: torch.dtype | None
    hint: str = ""

    @property
    def torch(self) -> torch.device:
        """The device for PyTorch."""
        return torch.device(self.name)

    def precision(self) -> contextlib.AbstractContextManager[object]:
        """A context in which the network's forward pass runs."""
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.torch.type, dtype=self.autocast)


def choose_device(name: str) -> Device:
    """The device that `name` means; never another one than was asked for.

    Parameters
    ----------
    name : str
        "auto" (CUDA, then MPS, then CPU), "cpu", "mps", "cuda" or "cuda:N".

    Raises
    ------
    DeviceError
        If the named device is absent, or no name of a device.
    """
    if re.match(DEVICE_PATTERN, name) is None:
        raise DeviceError(
            f"There is no device {name!r}.", "Devices are auto, cpu, mps, cuda, cuda:1 and so on.", "Correct the name."
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.startswith("cuda"):
        return _cuda(name)
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError(
                "The device 'mps' was asked for, but there is none.",
                "MPS needs an Apple GPU and macOS 14 or later.",
                "Choose 'auto' or 'cpu'.",
            )
        return Device("mps", "Apple GPU (MPS)", None)
    hint = CUDA_HINT if torch.version.cuda is None and shutil.which("nvidia-smi") else ""
    threads = torch.get_num_threads()
    return Device("cpu", f"CPU, {threads} thread{'s' * (threads != 1)}", _cpu_autocast(), hint)


def _cuda(name: str) -> Device:
    index = int(name.partition(":")[2] or 0)
    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        build = "a CPU build" if torch.version.cuda is None else f"built for CUDA {torch.version.cuda}"
        raise DeviceError(
            f"The device {name!r} was asked for, but there is none (PyTorch {torch.__version__} is {build}).",
            "CUDA needs an NVIDIA GPU with its driver and a CUDA build of PyTorch.",
            "Install them (pytorch.org/get-started), or choose 'auto' or 'cpu'.",
        )
    half = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    return Device(f"cuda:{index}", torch.cuda.get_device_name(index), half)


def _cpu_autocast() -> torch.dtype | None:
    """bfloat16 where the processor has instructions for it; emulated, it is ten times slower than float32."""
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = features.get("amx_bf16") or features.get("avx512_bf16") or features.get("bf16")
    return torch.bfloat16 if native else None


def to_device(network: nn.Module, device: Device) -> None:
    """Move a network, with its convolutions' weights laid out channels last."""
    network.to(device.torch, memory_format=torch.channels_last)  # type: ignore[call-overload]


def on_device(network: _Network, device: Device) -> _Network:
    """The network where it is to run: itself if it lies there as it is used, else a copy, so that it stays as it is.

    Weights that need not move are shared with it: never change them.
    """
    if all(_lies_there(weight, device) for weight in network.parameters()):
        return network
    shared = {id(weight): nn.Parameter(weight.detach(), weight.requires_grad) for weight in network.parameters()}
    copied = copy.deepcopy(network, shared)
    to_device(copied, device)
    return copied


def _lies_there(weight: nn.Parameter, device: Device) -> bool:
    laid_out = weight.ndim != 4 or weight.is_contiguous(memory_format=torch.channels_last)
    return weight.device == device.torch and laid_out


_WISHES = threading.local()


def look_before_layers(network: nn.Module) -> None:
    """Let each convolution of a network look first whether its pass is to stop; once, when the network is made."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(_look)


def _look(module: nn.Module, inputs: object) -> None:
    should_stop: Callable[[], bool] | None = getattr(_WISHES, "should_stop", None)
    if should_stop is not None and should_stop():
        raise Cancelled("restore")


@contextlib.contextmanager
def stopping_between_layers(should_stop: Callable[[], bool]) -> Iterator[None]:
    """A pass over a large tile takes seconds: look for a wish to stop before each layer, of this thread's passes alone.

    Never around a yield: the caller's own passes would look, too. See `look_before_layers`.
    """
    before = getattr(_WISHES, "should_stop", None)
    _WISHES.should_stop = should_stop
    try:
        yield
    finally:
        _WISHES.should_stop = before


@contextlib.contextmanager
def memory_released(device: Device) -> Iterator[None]:
    """Give the device's memory back at the end, and turn its exhaustion into an error that says what to do."""
    exhausted = False
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_exhaustion(error):
            raise
        error.__traceback__ = None  # its frames would keep the tensors alive
        exhausted = True
    finally:
        _release(device)
    if exhausted:
        raise DeviceMemoryError(
            f"The memory of {device.label} was exhausted.",
            "Training needs memory for a batch of patches, restoring for one tile.",
            "Lower tile_px or training.batch_size, close other programs, or choose device='cpu'.",
        ) from None


def _is_exhaustion(error: Exception) -> bool:
    """PyTorch's error for a GPU is a class of its own; its allocator for the CPU, and NumPy's, have others."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _release(device: Device) -> None:
    if device.torch.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
    elif device.torch.type == "mps":
        torch.mps.empty_cache()


def backing_off(
    run: Callable[[int, Device], Generator[_Step, None, _Result]],
    size: int,
    device: Device,
    *,
    least: int,
    unit: str,
    allow_cpu: bool,
    notes: list[str],
) -> Generator[_Step, None, _Result]:
    """Run with half the size each time that the device's memory is exhausted, from the start.

    Parameters
    ----------
    run : callable
        Given the size and the device; raises `DeviceMemoryError`.
    size, least : int
        What is tried first, and at last.
    device : Device
        Where to run.
    unit : str
        With one "{}" for the size, as in "tiles of {} px".
    allow_cpu : bool
        Whether the CPU follows, with the first size, when the device has no memory for the least one.
    notes : list of str
        What was done instead is added to it.

    Raises
    ------
    DeviceMemoryError
        If the memory is exhausted even so.
    """
    chosen = size
    while True:
        try:
            return (yield from run(size, device))
        except DeviceMemoryError as error:
            error.__traceback__ = None  # its frames would keep the tensors alive
            exhausted = error
        _release(device)
        before = f"the memory of {device.label} was exhausted by {unit.format(size)}: "
        if size > least:
            size = max(least, size // 2)
            _note(notes, before + f"went on with {unit.format(size)}")
        elif allow_cpu and device.torch.type != "cpu":
            size, device = chosen, choose_device("cpu")
            _note(notes, before + "went on on the CPU, as allowed")
        else:
            raise _at_the_least(exhausted, unit.format(size), device, allow_cpu=allow_cpu)


def _note(notes: list[str], note: str) -> None:
    if note not in notes:  # by an earlier phase of the run
        notes.append(note)


def _at_the_least(error: DeviceMemoryError, size: str, device: Device, *, allow_cpu: bool) -> DeviceMemoryError:
    """The same, for who has no smaller size to choose."""
    to_cpu = "" if device.torch.type == "cpu" or allow_cpu else ", or set allow_cpu=True to go on on the CPU"
    return DeviceMemoryError(
        error.received, f"Even {size} did not fit.", f"Close other programs, restore a part of the image{to_cpu}."
    )
