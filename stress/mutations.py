"""Valid files made invalid, as an attacker or a bad disk would: in their bytes, their tags, their XML and JSON.

Everything is drawn from one `random.Random`, so that a number tells a file.
"""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 17, 64, 255, 256, 1000, 4095, 32767, 65535, 65536, 100_000, 2**24, 2**31 - 1,
           2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)  # fmt: skip
TAGS = (254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 330, 338, 339, 32997,
        33628, 34665, 50838, 50839, 51123)  # fmt: skip
CODECS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 33003, 33005, 34712, 34887, 34892, 34925, 50000, 50001, 50002)
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 2**31, 2**63, 10**30, 0.5, -0.5, 1e308, float("nan"), float("inf"), "", "0", "x",
    "../../x", "/etc/passwd", "<script>", "\x00", "é" * 300, [], [1], [[]], [0] * 1000, {}, {"": 0}, {"a": {"a": {}}},
    "|O8", "S100000", "<f8", "uint8", "bytes", "blosc", "gzip",
)  # fmt: skip
TEXT = re.compile(rb'(?<=["= :])[0-9.]+(?=[", \]}\n])|"[A-Za-z0-9_:. -]{1,40}"|<[A-Za-z/][^<>]{0,200}>')


def mutate(seed: Path, target: Path, rng: random.Random) -> None:
    """Write a changed copy of a file, or of a folder one of whose files is changed."""
    if seed.is_dir():
        shutil.copytree(seed, target)
        files = sorted(path for path in target.rglob("*") if path.is_file())
        notes = [path for path in files if path.name.startswith((".z", "zarr"))]
        victim = rng.choice(notes if rng.random() < 0.8 else files)
        if rng.random() < 0.05:
            victim.unlink()
            return
        content = victim.read_bytes()
        if victim in notes and rng.random() < 0.85:
            victim.write_bytes(edited_json(content, rng))
        else:
            victim.write_bytes(changed_bytes(content, rng))
        return
    content = seed.read_bytes()
    ways: list[Callable[[bytes, random.Random], bytes]] = [changed_bytes, changed_bytes]
    if seed.suffix == ".tif":
        ways += [edited_tags, edited_tags, edited_text]
    elif seed.suffix == ".safetensors":
        ways += [edited_model, edited_model, edited_model]
    elif seed.suffix == ".png":
        ways += [edited_png]
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        content = rng.choice(ways)(content, rng)
    target.write_bytes(content)


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bits flipped, parts cut out, doubled, moved, blanked, or numbers written over them."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3, 8))):
        if not data:
            return b""
        # headers matter more than pixels
        at = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(len(data), 256))
        length = min(rng.choice((1, 2, 4, 8, 16, 64, 300)), len(data) - at)
        way = rng.randrange(9)
        if way in (0, 8):
            data[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            data[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif way == 2:
            code = rng.choice("<>") + rng.choice("HIQ")
            size = struct.calcsize(code)
            data[at : at + size] = struct.pack(code, rng.choice(NUMBERS) % 2 ** (8 * size))
        elif way == 3:
            del data[at : at + length]
        elif way == 4:
            data[at:at] = data[at : at + length] * rng.choice((1, 1, 2, 50))
        elif way == 5:
            data[at : at + length] = bytes([rng.choice((0, 255))]) * length
        elif way == 6:
            other = rng.randrange(len(data))
            data[at : at + length] = data[other : other + length]
        else:
            del data[at:]
    return bytes(data)


def edited_tags(content: bytes, rng: random.Random) -> bytes:
    """A TIFF with one field of one of its directories changed, or led to another directory."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None or len(content) < 16:
        return changed_bytes(content, rng)
    is_big = struct.unpack(order + "H", content[2:4])[0] == 43
    word, count_code, header = ("Q", "Q", 8) if is_big else ("I", "H", 4)
    size, data = struct.calcsize(word), bytearray(content)
    try:
        starts = [struct.unpack_from(order + word, data, header)[0]]
        for _ in range(8):
            tags = struct.unpack_from(order + count_code, data, starts[-1])[0]
            end = starts[-1] + struct.calcsize(count_code) + tags * (4 + 2 * size)
            following = struct.unpack_from(order + word, data, end)[0]
            if not following or following in starts:
                break
            starts.append(following)
        start = rng.choice(starts)
        tags = struct.unpack_from(order + count_code, data, start)[0]
        entry = start + struct.calcsize(count_code) + rng.randrange(tags) * (4 + 2 * size)
        way = rng.randrange(6)
        if way == 0:
            struct.pack_into(order + "H", data, entry, rng.choice(TAGS))
        elif way == 1:
            struct.pack_into(order + "H", data, entry + 2, rng.choice((0, 1, 2, 3, 4, 5, 7, 11, 12, 13, 16, 18, 99)))
        elif way == 2:
            struct.pack_into(order + word, data, entry + 4, rng.choice(NUMBERS) % 2 ** (8 * size))
        elif way in (3, 4):
            value = rng.choice(NUMBERS if rng.random() < 0.5 else CODECS)
            struct.pack_into(order + word, data, entry + 4 + size, value % 2 ** (8 * size))
        else:
            struct.pack_into(order + word, data, header, rng.choice((*starts, rng.randrange(len(data)))))
    except (struct.error, ValueError, IndexError, OverflowError):
        return changed_bytes(content, rng)
    return bytes(data)


def edited_text(content: bytes, rng: random.Random) -> bytes:
    """A TIFF with a number or a word of its XML or JSON changed, its length kept."""
    places = list(TEXT.finditer(content))
    if not places:
        return changed_bytes(content, rng)
    place = rng.choice(places)
    old = place[0]
    word = rng.choice((
        str(rng.choice(NUMBERS)), "-1", "1e999", "nan", "&a;", "<!DOCTYPE a>", "<!--", "</OME>", '"XYZCT"',
        '"../x.tif"',        '"float"', '"double"', '"complex"', '"|S9"', "[[[[", "{", '"', "null",
    )).encode()  # fmt: skip
    return content[: place.start()] + word[: len(old)].ljust(len(old)) + content[place.end() :]


def edited_png(content: bytes, rng: random.Random) -> bytes:
    """A PNG with another header, whose checksum holds."""
    import zlib

    data = bytearray(content)
    if len(data) < 33:
        return changed_bytes(content, rng)
    way = rng.randrange(4)
    if way < 2:
        struct.pack_into(">I", data, 16 + 4 * way, rng.choice(NUMBERS) % 2**32)
    else:
        data[22 + way] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    return bytes(data)


def edited_model(content: bytes, rng: random.Random) -> bytes:
    """A model with its safetensors header changed, or ours within it."""
    try:
        size = struct.unpack("<Q", content[:8])[0]
        outer = json.loads(content[8 : 8 + size])
        if rng.random() < 0.75:
            inner = outer["__metadata__"]["napari_vae_repair"].encode()
            outer["__metadata__"]["napari_vae_repair"] = edited_json(inner, rng).decode("utf-8", "replace")
            changed = json.dumps(outer).encode()
        else:
            changed = edited_json(json.dumps(outer).encode(), rng)
    except (ValueError, KeyError, TypeError, struct.error, AttributeError):
        return changed_bytes(content, rng)
    return struct.pack("<Q", len(changed)) + changed + content[8 + size :]


def edited_json(content: bytes, rng: random.Random) -> bytes:
    """JSON with values replaced, left out, moved or put into each other; at times as text without structure."""
    if rng.random() < 0.1:
        return changed_bytes(content, rng)
    try:
        tree = json.loads(content)
    except ValueError:
        return changed_bytes(content, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        places = _places(tree)
        if not places:
            break
        holder, key = rng.choice(places)
        way = rng.randrange(6)
        if way == 0:
            del holder[key]
        elif way == 1:
            other, there = rng.choice(places)
            holder[key] = copy.deepcopy(other[there]) if isinstance(there, str) or there < len(other) else None
        elif way == 2:
            holder[key] = [copy.deepcopy(holder[key])] * rng.choice((1, 2, 40))
        elif way == 3 and isinstance(holder[key], int | float):
            holder[key] = rng.choice((*NUMBERS, -1, 0.5, 1e300, float("nan"), -holder[key]))
        else:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(tree).encode()


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every list or dict with every index or key."""
    found, level = [], [tree]
    while level:
        each = level.pop()
        keys = list(each) if isinstance(each, dict) else range(len(each)) if isinstance(each, list) else ()
        found += [(each, key) for key in keys]
        level += [each[key] for key in keys]
    return found
