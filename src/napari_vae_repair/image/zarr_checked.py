"""Chunks that unpack to more than a chunk holds are refused before they fill the memory, and codecs that run code.

Codecs trust their chunk: gzip unpacks whatever is in it, zstd makes room for what the chunk claims, Blosc of numcodecs
0.16 gives what lies behind a chunk that is cut off, and a filter called pickle runs any program. So each codec of an
array is replaced by one that knows how much may come out, and those that are not known are refused.
"""

from __future__ import annotations

import asyncio
import bz2
import dataclasses
import lzma
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import imagecodecs
import numpy as np
import zarr
from numcodecs.abc import Codec  # type: ignore[import-untyped]
from numcodecs.compat import ensure_bytes  # type: ignore[import-untyped]
from zarr.abc.codec import ArrayArrayCodec, BytesBytesCodec
from zarr.codecs import ShardingCodec

MAX_SHARD_BYTES = 2**31  # of one that cannot be read in parts
_MAX_STREAMS = 100  # behind each other in one chunk; writers make one
_STREAMED: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "zlib": zlib.decompressobj,
    "bz2": bz2.BZ2Decompressor,
    "lzma": lambda: lzma.LZMADecompressor(memlimit=2**28),
}
_PACKED = {*_STREAMED, "zstd", "blosc", "lz4"}
# what comes out is about as large as what goes in
_PLAIN = {
    "bytes", "transpose", "shuffle", "delta", "fixedscaleoffset", "quantize", "bitround", "packbits", "astype", "crc32",
    "crc32c", "adler32", "fletcher32", "jenkins_lookup3",
}  # fmt: skip
_BLOSC_HEADER = 16  # unpacked bytes in its second four, packed bytes in its last four, little-endian


def checked(array: Any) -> Any:
    """The same array, whose chunks are unpacked within bounds; picklable.

    Parameters
    ----------
    array : zarr.Array

    Returns
    -------
    zarr.Array
        Reading it raises `ValueError` for a chunk that is cut off or would unpack to more than a chunk.

    Raises
    ------
    ValueError
        A codec is not among those that are known to be harmless.
    """
    metadata, itemsize = array.metadata, int(array.dtype.itemsize)
    if metadata.zarr_format == 2:
        filters = metadata.filters or ()
        limit = _limit(metadata.chunks, itemsize, filters)
        bounded = dataclasses.replace(
            metadata,
            compressor=None if metadata.compressor is None else _bounded_2(metadata.compressor, limit),
            filters=tuple(_bounded_2(codec, limit) for codec in filters) or None,
        )
    else:
        codecs = _bounded_3(metadata.codecs, array.shards or array.chunks, itemsize)
        bounded = dataclasses.replace(metadata, codecs=codecs)
    return _CheckedArray(zarr.AsyncArray(metadata=bounded, store_path=array.store_path))


class _CheckedArray(zarr.Array):  # type: ignore[type-arg]  # not generic before zarr 3.1
    def __reduce__(self) -> tuple[Any, ...]:
        # a pickled shard would come back with the codecs of its metadata
        return _opened, (self.store, self.path, self.metadata.zarr_format)


def _opened(store: Any, path: str, zarr_format: Any) -> Any:
    return checked(zarr.open_array(store, path=path, mode="r", zarr_format=zarr_format))


def _limit(chunk: Sequence[int], itemsize: int, filters: Sequence[Any]) -> int:
    """Bytes that a codec may give: the chunk's, with room for checksums, or for wider numbers before a filter."""
    whole = math.prod(int(n) for n in chunk) * itemsize * (8 if filters else 1)
    return whole + whole // 64 + 2**16


def _bounded_2(codec: Any, limit: int) -> Any:
    name = _known(codec.codec_id, codec.get_config())
    return _Bounded2(codec, name, limit) if name in _PACKED else codec


def _bounded_3(codecs: Sequence[Any], chunk: Sequence[int], itemsize: int) -> tuple[Any, ...]:
    """Codecs of zarr 3 for chunks of a shape, those within shards included."""
    limit = _limit(chunk, itemsize, [c for c in codecs if isinstance(c, ArrayArrayCodec)])
    found: list[Any] = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            if len(codecs) > 1 and limit > MAX_SHARD_BYTES:
                raise ValueError(f"its shards of {tuple(chunk)} are packed as a whole")
            inner = _bounded_3(codec.codecs, codec.chunk_shape, itemsize)
            found.append(dataclasses.replace(codec, codecs=inner))
            continue
        told = codec.to_dict()
        name = _known(str(told["name"]), told.get("configuration", {}))
        found.append(_Bounded3(codec, name, limit) if name in _PACKED else codec)
    return tuple(found)


def _known(name: str, options: Mapping[str, Any]) -> str:
    """The codec's name without its prefix; `ValueError` unless it is harmless, and so are the numbers it makes."""
    plain = name.removeprefix("numcodecs.")
    if plain not in _PACKED | _PLAIN:
        raise ValueError(f"its chunks are packed with {name[:40]!r}, which is not among {sorted(_PACKED | _PLAIN)}")
    for key in ("dtype", "astype", "encode_dtype", "decode_dtype"):
        if options.get(key) is not None and np.dtype(options[key]).kind not in "buif":
            raise ValueError(f"its filter {name} makes values of {str(options[key])[:40]}")
    return plain


class _Bounded2(Codec):  # type: ignore[misc]
    """A codec of zarr 2 that stops at a limit."""

    codec_id = "bounded"  # zarr asks for one of the class

    def __init__(self, codec: Any, name: str, limit: int) -> None:
        self.codec, self.name, self.limit, self.codec_id = codec, name, limit, codec.codec_id

    def encode(self, buf: Any) -> Any:
        return self.codec.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        data = ensure_bytes(buf)
        unpacked = _unpacked(self.name, data, self.limit)
        return self.codec.decode(data, out) if unpacked is None else unpacked

    def get_config(self) -> Any:
        return self.codec.get_config()


@dataclasses.dataclass(frozen=True)
class _Bounded3(BytesBytesCodec):
    """A codec of zarr 3 that stops at a limit."""

    codec: Any
    name: str
    limit: int
    is_fixed_size = False

    def to_dict(self) -> Any:
        return self.codec.to_dict()

    def evolve_from_array_spec(self, array_spec: Any) -> Any:
        return dataclasses.replace(self, codec=self.codec.evolve_from_array_spec(array_spec))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        return int(self.codec.compute_encoded_size(input_byte_length, chunk_spec))

    async def _decode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        unpacked = await asyncio.to_thread(_unpacked, self.name, chunk_data.to_bytes(), self.limit)
        if unpacked is not None:
            return chunk_spec.prototype.buffer.from_bytes(unpacked)
        (decoded,) = await self.codec.decode([(chunk_data, chunk_spec)])
        return decoded


def _unpacked(name: str, data: bytes, limit: int) -> bytes | None:
    """What is in a chunk; None where its header tells that its own codec can be left to unpack it."""
    if name == "zstd":
        try:
            return bytes(imagecodecs.zstd_decode(data, out=limit))
        except imagecodecs.ZstdError as error:
            raise ValueError(f"a chunk is damaged, or unpacks to more than {limit} bytes ({error})") from error
    if name in _STREAMED:
        return _streamed(name, data, limit)
    size, there = int.from_bytes(data[:4], "little"), len(data)  # of lz4
    if name == "blosc":
        size, there = int.from_bytes(data[4:8], "little"), int.from_bytes(data[12:16], "little")
        if len(data) < _BLOSC_HEADER or there > len(data):
            raise ValueError("a chunk is cut off")
    if size > limit:
        raise ValueError(f"a chunk unpacks to {size} bytes, more than {limit}")
    return None


def _streamed(name: str, data: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    left = limit + 1
    for _ in range(_MAX_STREAMS):
        stream = _STREAMED[name]()
        try:
            parts.append(stream.decompress(data, left))
        except (zlib.error, lzma.LZMAError, OSError) as error:
            raise ValueError(f"a chunk of {name} is damaged ({error})") from error
        left -= len(parts[-1])
        if left <= 0:
            raise ValueError(f"a chunk of {name} unpacks to more than {limit} bytes")
        if not stream.eof:
            raise ValueError(f"a chunk of {name} is cut off")
        data = stream.unused_data.lstrip(b"\0")
        if not data or name == "zlib":
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise ValueError(f"a chunk of {name} is made of more than {_MAX_STREAMS} streams")
