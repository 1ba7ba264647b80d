"""Decompress ``.Z`` files (LZW, as the Unix program ``compress`` writes them)."""

from __future__ import annotations

CLEAR = 256


def decompress(data: bytes) -> bytes:
    """The content of a ``.Z`` file.

    Raises
    ------
    ValueError
        The data are damaged.
    """
    longest, blocks = data[2] & 0x1F, bool(data[2] & 0x80)
    if not 9 <= longest <= 16:
        raise ValueError(f"codes of {longest} bits")
    fresh = [bytes([i]) for i in range(256)] + ([b""] if blocks else [])
    table = list(fresh)
    out: list[bytes] = []
    width, position, start, end = 9, 24, 24, 8 * len(data)
    last = b""
    while position + width <= end:
        byte = position >> 3
        code = (int.from_bytes(data[byte : byte + 3], "little") >> (position & 7)) & ((1 << width) - 1)
        position += width
        clear = blocks and code == CLEAR
        if clear:
            table, last = list(fresh), b""
        else:
            if code > len(table) or (code == len(table) and not last):
                raise ValueError(f"code {code} before its time")
            entry = table[code] if code < len(table) else last + last[:1]
            out.append(entry)
            if last and len(table) < 1 << longest:
                table.append(last + entry[:1])
            last = entry
        if clear or (len(table) >= 1 << width and width < longest):
            # codes come in groups of eight of one width; what is left of a group is padding
            group = 8 * width
            position = start + -(-(position - start) // group) * group
            start, width = position, 9 if clear else width + 1
    return b"".join(out)
