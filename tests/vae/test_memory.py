"""The tile is as large as memory allows, and half as large where that was too much."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_vae_repair.conditioning import Conditioned
from napari_vae_repair.errors import DeviceMemoryError
from napari_vae_repair.image.free_memory import whole_image_bytes
from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.phases import ask, fit, refine
from napari_vae_repair.settings import Network, Settings, make_settings
from napari_vae_repair.vae.device import Device, backing_off
from napari_vae_repair.vae.feeding import Fed
from napari_vae_repair.vae.memory import (
    TILES_PX,
    budget_bytes,
    check_whole,
    footprint_of,
    tile_that_fits,
)
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.posterior import Posterior
from napari_vae_repair.vae.record import Model, ValueRange, View
from napari_vae_repair.vae.risk import risks_of
from napari_vae_repair.vae.train import Prepared

CPU, ABSENT = Device("cpu", "CPU", None), Device("cuda:0", "a GPU", None)
WIDE = Network(widths=(64,), latents=(4,))  # much memory, little work
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="peaks and limits are read from /proc")


# ---- the probe ---------------------------------------------------------------------------------


def test_twice_the_features_take_twice_the_bytes_of_a_pixel() -> None:
    narrow, wide = (footprint_of(HierarchicalVAE(1, Network(widths=(width,), latents=(1,))), CPU) for width in (32, 64))
    assert wide.encoding == pytest.approx(2 * narrow.encoding, rel=0.1)
    assert wide.decoding == pytest.approx(2 * narrow.decoding, rel=0.1)


def test_what_stays_is_the_features_of_each_level_and_what_was_shown() -> None:
    found = footprint_of(HierarchicalVAE(1, Network(widths=(8, 12), latents=(2, 2))), CPU)
    assert found.encoded == pytest.approx(4 * (8 / 4 + 12 / 16 + 2), rel=0.05)


def test_more_memory_never_gives_a_smaller_tile() -> None:
    network = HierarchicalVAE(1, WIDE)
    used = -budget_bytes(CPU, 256) + 256 * 10**6
    tiles = [tile_that_fits(network, CPU, memory_mb=used // 10**6 + more) for more in (250, 280, 320, 400, 600, 1200)]
    assert tiles == sorted(tiles)
    assert len(set(tiles)) > 3
    assert set(tiles) <= set(TILES_PX)


def test_results_that_are_yet_to_be_made_leave_less_for_the_tile() -> None:
    network, allowed = HierarchicalVAE(1, WIDE), (256 * 10**6 - budget_bytes(CPU, 256)) // 10**6 + 600
    assert tile_that_fits(network, CPU, memory_mb=allowed, reserved_bytes=250 * 10**6) < tile_that_fits(
        network, CPU, memory_mb=allowed
    )


def test_too_little_for_the_smallest_tile_says_how_much_is_needed() -> None:
    with pytest.raises(DeviceMemoryError, match=r"256 MB.*needs about \d+ MB.*block by block"):
        tile_that_fits(HierarchicalVAE(1, WIDE), CPU, memory_mb=256, reserved_bytes=10**9)


def test_an_image_too_large_for_the_allowed_memory_is_told_before_the_work() -> None:
    check_whole(10**9, None)
    check_whole(10**6, 2000)
    with pytest.raises(DeviceMemoryError, match=r"2000 MB.*64\.0 million.*\.zarr"):
        check_whole(64 * 10**6, 2000)
    assert whole_image_bytes(10**6, kept_samples=16) > whole_image_bytes(10**6) + 16 * 4 * 10**6


PEAK = """
import sys
import numpy as np
from napari_vae_repair.settings import Network
from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.memory import tile_that_fits
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.predict import predict_steps
from napari_vae_repair.vae.record import ValueRange, View

network, device = HierarchicalVAE(1, Network(widths=(64,), latents=(4,))), Device("cpu", "CPU", None)
planes = np.zeros((1, 1, 900, 900), np.float32)
tile_px = tile_that_fits(network, device, memory_mb=int(sys.argv[1]), reserved_bytes=2 * planes.nbytes)
for _ in predict_steps(network, planes, planes[0] > 0, [View(ValueRange(0.0, 1.0))], one_pass=True, samples=0,
                       keep_samples=False, seed=0, tile_px=tile_px, device=device, should_stop=lambda: False):
    pass
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(tile_px, peak)
"""


@needs_linux
def test_the_peak_of_a_process_stays_within_what_it_may_use() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK, "660"], capture_output=True, text=True, check=True)
    tile_px, peak_kib = map(int, done.stdout.split())
    assert peak_kib * 1024 <= 660 * 10**6
    assert 128 <= tile_px <= 768


# ---- backing off -------------------------------------------------------------------------------


class Stingy(HierarchicalVAE):
    """Stands in for a GPU's allocator, since there is none here: no memory above so many pixels."""

    most_pixels = 180**2

    def encode(self, x: Tensor, damaged: Tensor, told: Tensor | None = None) -> list[Tensor]:
        if x.shape[-1] * x.shape[-2] > self.most_pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().encode(x, damaged, told)


def asked(model: Model, planes: np.ndarray, settings: Settings, notes: list[str]) -> Posterior:
    shown = Conditioned([], planes, (), [], [], [])
    damaged = np.zeros((len(planes), *planes.shape[2:]), dtype=bool)
    steps = ask(model, shown, damaged, settings, CPU, lambda: False, samples=2, notes=notes)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.fixture
def planes() -> np.ndarray:
    return np.random.default_rng(3).random((1, 1, 300, 290)).astype(np.float32)


@pytest.fixture
def stingy(model: Model) -> Model:
    network = Stingy(model.network.channels, model.network.network)
    network.load_state_dict(model.network.state_dict())
    return replace(model, network=network)


def test_a_tile_that_exhausts_the_memory_is_halved_and_the_result_is_the_same(
    planes: np.ndarray, model: Model, stingy: Model
) -> None:
    notes: list[str] = []
    whole, tiled = asked(model, planes, Settings(), []), asked(stingy, planes, Settings(), notes)
    assert np.abs(tiled.mean - whole.mean).max() < 1e-4 * np.ptp(whole.mean)
    assert np.abs(tiled.std - whole.std).max() < 1e-4 * np.ptp(whole.mean)
    assert notes == [
        "the memory of CPU was exhausted by tiles of 300 px: went on with tiles of 150 px",
        "the memory of CPU was exhausted by tiles of 150 px: went on with tiles of 75 px",
    ]


def test_no_memory_for_the_smallest_tile_is_an_error(
    planes: np.ndarray, stingy: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stingy, "most_pixels", 10)
    with pytest.raises(DeviceMemoryError, match=r"Even tiles of 64 px did not fit.*Close other"):
        asked(stingy, planes, Settings(tile_px=100), [])


@pytest.mark.parametrize("allow_cpu", [False, True])
def test_the_cpu_takes_over_only_where_that_was_allowed(*, allow_cpu: bool) -> None:
    tried: list[tuple[int, str]] = []
    notes: list[str] = []

    def run(size: int, device: Device) -> Generator[int, None, str]:
        tried.append((size, device.name))
        yield size
        if device == ABSENT:
            raise DeviceMemoryError("The memory was exhausted.", "", "")
        return device.name

    steps = backing_off(run, 128, ABSENT, least=64, unit="tiles of {} px", allow_cpu=allow_cpu, notes=notes)
    if allow_cpu:
        assert list(steps) == [128, 64, 128]
        assert tried[-1] == (128, "cpu")
        assert notes[-1].endswith("went on on the CPU, as allowed")
    else:
        with pytest.raises(DeviceMemoryError, match="allow_cpu=True"):
            list(steps)
        assert tried == [(128, "cuda:0"), (64, "cuda:0")]


def test_given_tiles_that_the_allowed_memory_cannot_hold_are_made_smaller(
    planes: np.ndarray, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_vae_repair.phases.tile_that_fits", lambda *_, **__: 96)
    notes: list[str] = []
    asked(model, planes, Settings(tile_px=160, memory_mb=500), notes)
    assert notes == ["tiles of 96 px were used: 500 MB hold none of 160 px"]


LIMITED = """
import resource
import numpy as np, psutil, torch
from napari_vae_repair.conditioning import Conditioned
from napari_vae_repair.phases import ask
from napari_vae_repair.settings import Network, Settings
from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.record import Model, ValueRange

torch.manual_seed(0)
settings = Settings(network=Network(widths=(64,), latents=(4,)), tile_px=640)
model = Model(HierarchicalVAE(1, settings.network).eval(), settings, ValueRange(0.0, 1.0), (), (), {})
planes = np.random.default_rng(0).random((1, 1, 640, 640)).astype(np.float32)

def restored(tile_px, notes):
    steps = ask(model, Conditioned([], planes, (), [], [], []), planes[0] < 0, settings.model_copy(
        update={"tile_px": tile_px}), Device("cpu", "CPU", None), lambda: False, samples=0, notes=notes)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value.mean

small, notes = restored(256, []), []
limit = psutil.Process().memory_info().vms + 130 * 10**6
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
large = restored(640, notes)
assert np.abs(large - small).max() < 1e-4 * np.ptp(small)
print("\\n".join(notes))
"""


@needs_linux
def test_a_real_failure_to_allocate_halves_the_tile_and_the_result_is_right() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        "the memory of CPU was exhausted by tiles of 640 px: went on with tiles of 320 px"
    )


def test_batches_are_halved_when_adapting_exhausts_the_memory(
    noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = HierarchicalVAE(1, Network(widths=(6,), latents=(2,), told=True)).eval()
    model = Model(network, Settings(), None, (), (), {})
    encode = HierarchicalVAE.encode

    def scarce(self: HierarchicalVAE, x: Tensor, damaged: Tensor, told: Tensor | None = None) -> list[Tensor]:
        if len(x) > 4 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, x, damaged, told)

    monkeypatch.setattr(HierarchicalVAE, "encode", scarce)
    view = View(ValueRange(0.0, 1000.0), (0.2, 0.0, 0.0))
    shown = Conditioned([], noisy[None, None], (), [], [view], [])
    notes: list[str] = []
    steps = refine(model, shown, noisy[None] < -1e9, Settings(adapt_steps=3), CPU, lambda: False, lambda: False, notes)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            adapted, note = end.value
            break
    assert notes == ["the memory of CPU was exhausted by batches of 8: went on with batches of 4"]
    assert adapted.training["adapted"]["batch_size"] == 4
    assert "adapted in 3 steps" in note


def test_networks_are_compared_alike_in_parts() -> None:
    network = HierarchicalVAE(1, Network(widths=(6,), latents=(2,), told=True)).eval()
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 5, 1, 16, 16)).astype(np.float32))
    told = torch.tensor([[0.2, 0.0, 0.0]] * 5)
    batch = Fed(images[0], images[1], (images[2] > 1).float(), (images[3] > 1).float(), torch.zeros(5), told)
    with torch.no_grad():
        in_parts, at_once = (risks_of(network, batch, images[2], size) for size in (2, 96))
    torch.testing.assert_close(in_parts, at_once)


def test_batches_are_halved_when_training_exhausts_the_memory(tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = HierarchicalVAE.encode

    def scarce(network: HierarchicalVAE, x: Tensor, damaged: Tensor, told: Tensor | None = None) -> list[Tensor]:
        if network.training and torch.is_grad_enabled() and len(x) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(network, x, damaged, told)

    monkeypatch.setattr(HierarchicalVAE, "encode", scarce)
    planes = np.random.default_rng(0).normal(0.5, 0.1, (1, 1, 64, 64)).astype(np.float32)
    prepared = Prepared(planes, planes[:, 0] > 9, np.zeros(1, np.int64), (NoiseModel(0.0, 0.1, 0.0, (0.0, 0.0)),))
    notes: list[str] = []
    *_, last = fit(prepared, [], make_settings(tiny, epochs=1), CPU, lambda: False, [], notes)
    assert notes[-1].endswith("batches of 4: went on with batches of 2")
    assert last.model is not None
    assert last.model.settings.training.batch_size == 2
    assert last.done == last.total == 16
