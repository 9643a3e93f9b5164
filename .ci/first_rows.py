"""The first rows of an array in a `.npy` file of two dimensions, as another such file.

Usage: first_rows.py ARRAY.npy ROWS OUT.npy
"""

import ast
import struct
import sys


def main():
    source, rows, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with open(source, "rb") as file:
        start = file.read(10)
        if start[:8] != b"\x93NUMPY\x01\x00":
            sys.exit(f"{source}: no .npy file of version 1.0")
        header = ast.literal_eval(file.read(struct.unpack("<H", start[8:])[0]).decode("latin1"))
        count, dim = header["shape"]
        if header["fortran_order"] or rows > count:
            sys.exit(f"{source}: {count} rows, in Fortran's order: {header['fortran_order']}")
        body = file.read(rows * dim * int(header["descr"][2:]))
    text = repr({**header, "shape": (rows, dim)})
    # The values start at a multiple of 64.
    text = text + " " * (-(len(text) + 11) % 64) + "\n"
    with open(out, "wb") as file:
        file.write(start[:8] + struct.pack("<H", len(text)) + text.encode("latin1") + body)


if __name__ == "__main__":
    main()
