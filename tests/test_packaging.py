"""What is built can be published, installed and opened: wheel, wheel from the sdist, editable install."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.resources import files
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
MANIFEST = "napari_vae_repair/napari.yaml"

OPEN_WIDGET = """
import sys
from pathlib import Path
import napari
import napari_vae_repair

assert Path(napari_vae_repair.__file__).is_relative_to(sys.prefix), napari_vae_repair.__file__
viewer = napari.Viewer(show=False)
_, widget = viewer.window.add_plugin_dock_widget("napari-vae-repair", "VAE Repair")
assert type(widget).__module__.startswith("napari_vae_repair."), type(widget)
viewer.close()
print("opened", type(widget).__name__)
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Output of a command in an environment where neither this checkout nor the user's napari settings count."""
    clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    clean |= {"NAPARI_CONFIG": str(cwd / "napari-settings.yaml"), "PYTHONWARNINGS": "ignore"} | environment
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean, text=True, capture_output=True, timeout=900
    )
    assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source: Path, target: Path, kind: str) -> Path:
    """The one wheel or sdist that a build of `source` leaves in `target`."""
    run(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", target, source, cwd=source)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git would publish, so that no build writes into the tree that is being worked on."""
    copy = tmp_path_factory.mktemp("checkout") / "project"
    unpublished = shutil.ignore_patterns(
        ".git", ".venv*", "runs", "dist", "build", "demo-output", "__pycache__", ".*_cache"
    )
    shutil.copytree(ROOT, copy, symlinks=True, ignore=unpublished)
    (copy / "src" / MANIFEST).unlink(missing_ok=True)
    return copy


@pytest.fixture(scope="session")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(checkout, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="session")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(checkout, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="session")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_wheel_holds_the_top_level_manifest_once(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if name.endswith("napari.yaml")] == [MANIFEST]
        assert archive.read(MANIFEST) == (ROOT / "napari.yaml").read_bytes()


def test_wheel_holds_nothing_but_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folders = {name.split("/")[0] for name in archive.namelist()}
    assert {re.sub(r"-.*\.dist-info", ".dist-info", folder) for folder in folders} == {
        "napari_vae_repair",
        "napari_vae_repair.dist-info",
    }


def test_wheel_holds_the_starter_and_stays_small(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        sizes = {name: content.getinfo(name).file_size for name in content.namelist()}
    (weights,) = [size for name, size in sizes.items() if name.endswith(".safetensors")]
    assert 1e6 < weights <= 8e6
    assert wheel.stat().st_size < 9e6


def test_wheel_built_from_the_sdist_is_the_same(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert (source / "napari.yaml").is_file()
    assert (source / "hatch_build.py").is_file()
    rebuilt = build(source, tmp_path / "wheel", "wheel")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(rebuilt) as second:
        assert {name: first.read(name) for name in first.namelist()} == {
            name: second.read(name) for name in second.namelist()
        }


def test_editable_install_finds_the_manifest(checkout: Path, tmp_path: Path) -> None:
    editable = tmp_path / "environment"
    python = make_environment(editable)
    install(python, "--no-deps", "--no-build-isolation", "--editable", str(checkout), borrow=True)
    find = f"from importlib.resources import files; print(files('napari_vae_repair') / '{Path(MANIFEST).name}')"
    found = Path(run(python, "-c", find, cwd=tmp_path).strip())
    assert found.is_relative_to(checkout)
    assert found.read_bytes() == (ROOT / "napari.yaml").read_bytes()
    assert "napari-vae-repair" in run(python, "-m", "npe2", "list", cwd=tmp_path)


def test_this_environment_finds_the_manifest() -> None:
    installed = files("napari_vae_repair") / "napari.yaml"
    assert installed.read_bytes() == (ROOT / "napari.yaml").read_bytes(), "renew it: pip install -e ."


def test_twine_accepts_what_is_published(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist, cwd=tmp_path)


def test_metadata_is_ready_for_the_hub(metadata: Message) -> None:
    assert metadata["Name"] == "napari-vae-repair"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    classifiers = metadata.get_all("Classifier", [])
    assert "Framework :: napari" in classifiers
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13, 14)} <= set(classifiers)
    links = dict(link.split(", ") for link in metadata.get_all("Project-URL", []))
    assert {"Homepage", "Source", "Issues", "Changelog"} <= links.keys()


def test_base_dependencies_hold_no_qt_and_no_napari(metadata: Message) -> None:
    base = base_requirements(metadata)
    assert {"torch", "npe2", "magicgui", "scikit-image"} <= base.keys()
    assert not [name for name in base if re.match(r"napari|pyqt|pyside|qtpy|superqt|vispy|bm3d", name)]


def test_base_dependencies_are_floors_so_that_nothing_installed_is_replaced(metadata: Message) -> None:
    operators = {name: [part.operator for part in need.specifier] for name, need in base_requirements(metadata).items()}
    assert {name: found for name, found in operators.items() if found != [">="]} == {}
    torch = base_requirements(metadata)["torch"]
    assert torch.specifier.contains("2.6.0+cu124"), "a CUDA build satisfies the floor"


def test_constraints_name_every_development_tool_and_no_source() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert not [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)], (
        "pins only: no links, no local versions"
    )
    assert "torch==2.13.0" in lines


def test_readme_images_are_absolute() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    images = re.findall(r"!\[[^\]]*\]\(\s*([^)\s]+)", readme) + re.findall(
        r"<(?:img|source)[^>]+(?:src|srcset)=\"([^\"]+)", readme
    )
    assert [image for image in images if not image.startswith("https://")] == []


@pytest.mark.gui
def test_wheel_opens_its_widget_beside_an_installed_napari(wheel: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "environment")
    install(python, "--no-deps", str(wheel), borrow=True)
    check_opens(python, tmp_path)


@pytest.mark.gui
@pytest.mark.slow
def test_wheel_alone_brings_all_it_needs(wheel: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "environment")
    install(python, "--constraint", str(ROOT / "constraints.txt"), str(wheel))
    run(python, "-I", "-c", "import napari_vae_repair; napari_vae_repair.restore", cwd=tmp_path)
    assert run(script(python, "vae-repair"), "--help", cwd=tmp_path).startswith("usage: vae-repair")
    install(python, "--constraint", str(ROOT / "constraints.txt"), f"{wheel}[all]")
    check_opens(python, tmp_path)


def base_requirements(metadata: Message) -> dict[str, Requirement]:
    """What an installation without extras asks for, by lower-case name."""
    needs = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    return {need.name.lower(): need for need in needs if need.marker is None or "extra" not in str(need.marker)}


def make_environment(folder: Path) -> Path:
    """The interpreter of a new, empty virtual environment."""
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def script(python: Path, name: str) -> Path:
    """A command that is installed beside an interpreter."""
    return python.with_name(name + python.suffix)


def install(python: Path, *arguments: str, borrow: bool = False) -> None:
    """Install by this environment's pip; `borrow` lends the new environment this one's packages, without our own."""
    folder = python.parents[1]
    if borrow:
        where = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
        # a folder on a .pth line has its own .pth files ignored, and with them our editable install
        lent = [path for path in site.getsitepackages() if Path(path).is_dir()]
        Path(where, "borrowed.pth").write_text("\n".join(lent) + "\n")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *arguments, cwd=folder)


def check_opens(python: Path, folder: Path) -> None:
    """The manifest is valid, its commands can be imported and its widget opens in a viewer."""
    run(python, "-m", "npe2", "validate", "napari-vae-repair", "--imports", cwd=folder)
    assert "opened" in run(python, "-I", "-c", OPEN_WIDGET, cwd=folder)
