"""`LayerCombo`: a combo box of fixed choices and of layers, which it does not keep alive."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from qtpy.QtWidgets import QComboBox


class LayerCombo(QComboBox):
    """A choice among layers.

    Parameters
    ----------
    *fixed : str
        Choices before the layers, the default first.
    """

    def __init__(self, *fixed: str) -> None:
        super().__init__()
        self._fixed = fixed
        self.addItems(fixed)
        # long names of layers must not widen the dock
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)

    @property
    def layer(self) -> Any:
        """The chosen layer; None for a fixed choice, and for a layer that is gone."""
        reference = self.currentData()
        return None if reference is None else reference()

    def offer(self, layers: Sequence[tuple[str, Any]]) -> None:
        """Offer these layers by these names; what was chosen stays chosen, under a new name too."""
        chosen, text = self.layer, self.currentText()
        self.clear()
        self.addItems(self._fixed)
        for name, layer in layers:
            self.addItem(name, weakref.ref(layer))
        same = [len(self._fixed) + index for index, (_, layer) in enumerate(layers) if layer is chosen]
        fixed = self._fixed.index(text) if text in self._fixed else 0
        self.setCurrentIndex(same[0] if same else fixed)
