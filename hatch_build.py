"""Build hook: ships the top-level ``napari.yaml`` inside the package, where npe2 looks for it.

The manifest is one real file at the top level. A wheel gets it by force-include; hatchling offers no such
thing for an editable install, where it is linked (or, where links are not allowed, copied) into the package's
folder. Git ignores it there.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MANIFEST = "napari.yaml"
PACKAGE = "napari_vae_repair"


class ManifestHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the manifest into wheels and editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the manifest to the build; `version` is ``"editable"`` for ``pip install -e``, else ``"standard"``."""
        if version == "editable":
            link_or_copy(Path(self.root))
        else:
            build_data["force_include"][str(Path(self.root, MANIFEST))] = f"{PACKAGE}/{MANIFEST}"


def link_or_copy(root: Path) -> None:
    """Make the manifest appear in the package's source folder."""
    source = root / MANIFEST
    if not source.is_file():
        raise FileNotFoundError(f"{source} is missing: it is the plugin's manifest and belongs to the repository.")
    target = root / "src" / PACKAGE / MANIFEST
    target.unlink(missing_ok=True)
    try:
        target.symlink_to(Path("..", "..", MANIFEST))
    except OSError:
        # Windows without the right to make links: the copy is renewed by the next `pip install -e .`
        shutil.copyfile(source, target)
