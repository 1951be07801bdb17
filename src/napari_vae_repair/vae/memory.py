"""How large a tile may be."""

from __future__ import annotations

MOST_TILE_PX = 512
