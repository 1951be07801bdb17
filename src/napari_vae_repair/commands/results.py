"""What the commands share: a restoration run with its progress shown, and what is written of it."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_vae_repair import __version__
from napari_vae_repair.terminal import ProgressLine

if TYPE_CHECKING:
    from napari_vae_repair.image.record import Image
    from napari_vae_repair.pipeline import Progress
    from napari_vae_repair.restoration import Restoration
    from napari_vae_repair.settings import Settings


def run_restoration(
    image: Image, settings: Settings, reference: Any = None, save_model_to: str | None = None
) -> Restoration:
    """Restore with progress on stderr; the model is saved before prediction, so that its training is not lost."""
    from napari_vae_repair.pipeline import restore_steps

    line, saved = ProgressLine(), save_model_to is None
    steps: Generator[Progress, None, Restoration] = restore_steps(image, settings, reference=reference)
    try:
        while True:
            progress = next(steps)
            line.show(progress)
            if not saved and progress.model is not None:
                from napari_vae_repair.vae.checkpoint import save_model

                line.end()
                print(save_model(progress.model, str(save_model_to)), flush=True)
                saved = True
    except StopIteration as end:
        restoration: Restoration = end.value
        return restoration
    finally:
        line.end()


def provenance_of(restoration: Restoration, source: str) -> dict[str, Any]:
    """How it came to be, for the files that it is written to."""
    return {
        "source": source,
        "version": __version__,
        "settings": restoration.settings.model_dump(mode="json"),
        "report": restoration.report.to_dict(),
    }


def write_report(restoration: Restoration, path: Path, source: str) -> None:
    """Write how far it can be trusted: a page (.html) or numbers (.json)."""
    if path.suffix.lower() == ".html":
        from napari_vae_repair.trust_page import write_trust_page

        write_trust_page(restoration, path, source=source)
    else:
        _write_json(restoration.report.to_dict() | {"trust": restoration.trust().to_dict()}, path)
    print(path, flush=True)


def _write_json(report: dict[str, Any], path: Path) -> None:
    from napari_vae_repair.image.atomic import replacing
    from napari_vae_repair.image.tiff import json_metadata

    # JSON has no NaN; strict readers would refuse the whole file
    text = json.dumps(json_metadata(report, path))
    plain = json.loads(text, parse_constant=lambda _: None)
    with replacing(path) as stream:
        stream.write(json.dumps(plain, indent=2).encode() + b"\n")
