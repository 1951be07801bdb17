"""Nothing that a file brings is run, and no name in it leads out of a folder or into a page."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import tifffile

import napari_vae_repair
from napari_vae_repair.image.files import StoredImage, read_image, read_layers, write_image, write_layers
from napari_vae_repair.image.record import Image
from napari_vae_repair.pipeline import restore
from napari_vae_repair.trust_page import trust_page

SOURCES = sorted(Path(napari_vae_repair.__file__).parent.rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "ctypes"}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {("torch", "load"), ("torch", "save"), ("torch", "jit"), ("torch", "hub"), ("os", "system"), ("os", "popen"),
           ("np", "fromregex"), ("numpy", "fromregex"), ("pd", "read_pickle")}  # fmt: skip
NAMES = ["../../x", "/etc/passwd", "..\\..\\x", "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a\x00b",
         "$\\frac{", "\x1b[31mred", "a\nb", "é" * 300, "]]><x>", "&lt;"]  # fmt: skip


def faults(source: str) -> list[str]:
    """Whatever in a module could run what a file holds."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if node.module and node.module.split(".")[0] in MODULES else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found += [node.func.id] if node.func.id in CALLS else []
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found += [f"{node.value.id}.{node.attr}"] if (node.value.id, node.attr) in METHODS else []
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell"):
            found += [node.arg] if getattr(node.value, "value", True) is not False else []
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_module_runs_what_a_file_holds(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import yaml",
        "eval('1')",
        "exec(code)",
        "torch.load(path)",
        "os.system('ls')",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=given)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_finds_what_would_run(source: str) -> None:
    assert len(faults(source)) == 1
    assert not faults("np.load(path, allow_pickle=False); network.eval(); re.compile('a'); ast.literal_eval(text)")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_file_stays_a_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    pixels = np.arange(2 * 16 * 16, dtype=np.uint8).reshape(2, 16, 16)
    write_layers(
        folder / "a.ome.tif", [StoredImage(name, pixels, "CYX", {}, {"note": name})], {"source": name}, [name, "b"]
    )
    write_image(folder / "b.tif", pixels, "CYX", channel_names=[name, "b"], provenance={"source": name})
    assert [layer.name for layer in read_layers(folder / "a.ome.tif")] == [name]
    for file in ("a.ome.tif", "b.tif"):
        image = read_image(folder / file)
        assert image.channel_names == (name, "b")
        assert image.name == file[0]  # of the file itself, whatever stands in it
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.ome.tif", "b.tif", "inner"]
    with tifffile.TiffFile(folder / "a.ome.tif") as tif:
        assert tif.ome_metadata is not None
        assert np.array_equal(tif.asarray(), pixels)


def test_names_cannot_become_part_of_the_page() -> None:
    pixels = np.random.default_rng(0).normal(100, 10, (32, 32)).astype(np.float32)
    page = trust_page(restore(Image(pixels, "YX", name="<script>")), source=" ".join(NAMES))
    for hostile in ("<script", "<img src=x", "]]><x>"):
        assert hostile not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "&amp;lt;" in page
