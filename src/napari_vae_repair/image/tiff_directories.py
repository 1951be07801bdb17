"""Whether the directories of a TIFF are all there, and no more than the file can hold."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_TAG_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_LONG_VALUE_BYTES = 2**16  # short ones may be shared by pages


def is_complete(path: Path) -> bool:
    """Whether all directories and tag values of a TIFF lie within the file; True for files of another kind.

    tifffile only logs a chain of directories that leads out of the file and gives the pages before it. Directories
    and long values that lie over each other count as one that is too long, and so does a chain that leads back into
    itself: reading them all could take for ever.
    """
    file_bytes = path.stat().st_size
    with path.open("rb") as stream:
        header = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(header[:2])
        if order is None or len(header) < 16:
            return order is None
        is_big = struct.unpack(order + "H", header[2:4])[0] == 43
        start = struct.unpack(order + ("Q" if is_big else "I"), header[8:16] if is_big else header[4:8])[0]
        seen: set[int] = set()
        total = 0
        while start:
            if start in seen:
                return False
            seen.add(start)
            end, start, own_bytes = _directory(stream, start, order, is_big)
            total += own_bytes
            if max(end, total) > file_bytes:
                return False
    return True


def _directory(stream: BinaryIO, start: int, order: str, is_big: bool) -> tuple[int, int, int]:
    """Where one directory and its values end, where the next one starts (0 = none), and bytes with its long values."""
    count_code, entry_code, inline_bytes = ("Q", "HHQ8s", 8) if is_big else ("H", "HHI4s", 4)
    offset_code = "Q" if is_big else "I"
    count_bytes, entry_bytes = struct.calcsize(count_code), struct.calcsize("=" + entry_code)
    beyond = 2**63, 0, 0
    stream.seek(start)
    head = stream.read(count_bytes)
    if len(head) < count_bytes:
        return beyond
    tags = struct.unpack(order + count_code, head)[0]
    body = stream.read(min(tags, 65536) * entry_bytes + inline_bytes)
    if tags > 65536 or len(body) < tags * entry_bytes + inline_bytes:
        return beyond
    end, own_bytes = start, len(head) + len(body)
    for _, kind, count, raw in struct.iter_unpack(order + entry_code, body[:-inline_bytes]):
        value_bytes = count * _TAG_BYTES.get(kind, 0)
        if value_bytes > inline_bytes:
            end = max(end, struct.unpack(order + offset_code, raw)[0] + value_bytes)
            own_bytes += value_bytes if value_bytes > _LONG_VALUE_BYTES else 0
    return end, struct.unpack(order + offset_code, body[-inline_bytes:])[0], own_bytes
