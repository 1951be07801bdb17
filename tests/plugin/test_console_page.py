"""The transcript in docs/console.md, typed into the namespace that napari's console has."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gui

PAGE = Path(__file__).parents[2] / "docs/console.md"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_the_transcript_of_the_console_page_is_true(viewer: Any, plugin_settings: Any, qtbot: Any) -> None:
    from napari.settings import get_plugin_settings

    get_plugin_settings("napari-vae-repair").restoration.reset()
    namespace: dict[str, Any] = {"viewer": viewer}
    wrong: list[str] = []
    blocks = re.findall(r"```pycon\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 5
    for number, block in enumerate(blocks):
        session = doctest.DocTestParser().get_doctest(block, namespace, f"block {number}", str(PAGE), 0)
        runner = doctest.DocTestRunner(optionflags=OPTIONS)
        runner.run(session, out=wrong.append, clear_globs=False)
        namespace.update(session.globs)
        widget = namespace["w"]
        qtbot.waitUntil(lambda: not widget.running, timeout=60_000)  # noqa: B023  # the reader waits here, too
        assert not wrong, "".join(wrong)
