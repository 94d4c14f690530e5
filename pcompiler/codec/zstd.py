"""zstd frames with their size and a checksum, and a decompressor that cannot be made to swell."""

from __future__ import annotations

import zstandard

from pcompiler.errors import DamageError

MAX_FACTOR = 256  # stored tensors never shrink this far; a frame that claims to is hostile
SLACK_BYTES = 2**20


def compress(data: bytes, level: int = 3) -> bytes:
    """One frame with its content size and an XXH64 checksum of the content."""
    params = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
    return params.compress(data)


def decompress(frame: bytes, size: int) -> bytes:
    """Undo ``compress``. Nothing is allocated before the claimed sizes have been checked.

    Args:
        frame: the bytes of one frame.
        size: the content size, in bytes, that the caller expects.

    Raises:
        DamageError: another size, an implausible one, or content that fails its checksum.
    """
    if size > SLACK_BYTES + MAX_FACTOR * len(frame):
        raise DamageError(f"{len(frame)} compressed bytes claim to hold {size}; refused.")
    try:
        claimed = zstandard.frame_content_size(frame)
        if claimed != size:
            raise DamageError(f"a compressed part claims {claimed} bytes where {size} belong.")
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)
    except zstandard.ZstdError as e:
        raise DamageError(f"a compressed part is damaged: {e}.") from None
