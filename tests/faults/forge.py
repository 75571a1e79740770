"""Second preimages for XXH3-128 without a seed: other bytes of the same length with the same xxh128.

The first 896 bytes become a chosen payload; the 128 bytes after them put the eight accumulators of the first block back to
what they were, so whatever follows hashes as before. (Each 64-bit lane of a stripe adds itself to its neighbour's accumulator
and the product of its keyed halves to its own; a keyed low half of 0 or 1 leaves both free to choose.)
"""

from __future__ import annotations

import struct

BLOCK = 1024
PAYLOAD = 896
SHORTEST = BLOCK + 128
"""A target must be longer than this, so that the first block is a full one."""

_MASK = (1 << 64) - 1
_LOW = (1 << 32) - 1
# kSecret of XXH3 (xxhash.h).
_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6"
    "813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931"
    "c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f"
    "95160428afd7fbcabb4b407e"
)


def forge(target: bytes, payload: bytes = b"these are not the bytes you named\n") -> bytes:
    """Bytes that begin with `payload` (at most 896 bytes), as long as `target` (over 1,152 bytes), with its xxh128."""
    assert len(target) > SHORTEST and len(payload) <= PAYLOAD
    forged = bytearray(target)
    forged[:PAYLOAD] = payload.ljust(PAYLOAD, b"\n")
    before, after = _accumulate(target, 16), _accumulate(forged, 14)
    need = [(before[lane] - after[lane]) & _MASK for lane in range(8)]
    # Stripe 14: keyed low halves of 1, so that the keyed high half itself is the product. It sets the low half of each need.
    high = [(need[lane] - (_key(14, lane ^ 1) & _LOW ^ 1) - (_key(15, lane ^ 1) & _LOW)) & _LOW for lane in range(8)]
    words = [(high[lane] << 32 | 1) ^ _key(14, lane) for lane in range(8)]
    for lane, word in enumerate(words):
        struct.pack_into("<Q", forged, 64 * 14 + 8 * lane, word)
    # Stripe 15: keyed low halves of 0, so that there is no product. It sets the high half.
    for lane in range(8):
        low = _key(15, lane ^ 1) & _LOW
        rest = (need[lane] - words[lane ^ 1] - high[lane] - low) & _MASK
        struct.pack_into("<Q", forged, 64 * 15 + 8 * (lane ^ 1), rest | low)
    return bytes(forged)


def _accumulate(block: bytes | bytearray, stripes: int) -> list[int]:
    sums = [0] * 8
    for stripe in range(stripes):
        for lane in range(8):
            word = struct.unpack_from("<Q", block, 64 * stripe + 8 * lane)[0]
            keyed = word ^ _key(stripe, lane)
            sums[lane ^ 1] = (sums[lane ^ 1] + word) & _MASK
            sums[lane] = (sums[lane] + (keyed & _LOW) * (keyed >> 32)) & _MASK
    return sums


def _key(stripe: int, lane: int) -> int:
    return int(struct.unpack_from("<Q", _SECRET, 8 * stripe + 8 * lane)[0])
