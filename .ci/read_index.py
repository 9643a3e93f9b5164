"""A second reader of index files, written from FORMAT.md alone, in plain Python.

Usage: read_index.py INDEX QUERIES.npy IDS.npy DISTANCES.npy

Checks that FORMAT.md says what the library does: for the first queries, the distances that the tool
found (without rerank) must be what the document's formulas give from the bytes of the file, the
lower bounds of SAQ must lie below, and decoded vectors must be near the kept ones. Slow: for small
files.
"""

import struct
import sys
from array import array
from math import inf, sqrt

QUERIES = 5
KINDS = {
    1: "meta", 2: "mean", 3: "rotation", 4: "segments", 5: "centroids", 6: "centroids-packed",
    7: "list-table", 8: "scan", 9: "rest", 10: "ids", 11: "kept", 12: "rotation-scales",
    13: "list-factors", 14: "spilled", 15: "codebooks", 16: "codebook-scales",
    17: "codebook-offsets", 18: "ranges", 19: "list-checksums", 20: "outlier-positions",
    21: "outlier-vectors",
}

# The kinds that only some quantizers have.
OWN_KINDS = {"segments", "codebooks", "codebook-scales", "codebook-offsets", "ranges"}

# The kinds that are both there or both missing.
OUTLIERS = {"outlier-positions", "outlier-vectors"}


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ CRC[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: expected {expected!r}, found {found!r}")


def expect_among(what, found, allowed):
    if found not in allowed:
        sys.exit(f"{what}: expected one of {allowed!r}, found {found!r}")


def up(value, unit):
    return (value + unit - 1) // unit * unit


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def panel(row, column, columns):
    """Where the value of a row and a column is in `rotation` and `codebooks`."""
    return row // 16 * 16 * up(columns, 2) + column // 2 * 32 + row % 16 * 2 + column % 2


class Index:
    """What is the same for all quantizers. The classes below have the rest, with the kinds that others lack
    and what meta may say: spec, and the bytes of an additive factor in steps and otherwise."""

    KINDS_OF_ITS_OWN = set()

    def __init__(self, data):
        # The container.
        expect("magic", data[:8], b"NONIUS\x1a\n")
        (version, header_len, flags, self.dim, self.count, self.metric, _, sections, _,
         table, file_len) = struct.unpack_from("<IIIIQIIIIQQ", data, 8)
        expect("version", (version, header_len, flags, table), (1, 128, 0, 128))
        expect("length", file_len, len(data))
        expect("header checksum", struct.unpack_from("<I", data, 124)[0], crc32c(data[:124]))
        end = 128 + 40 * sections
        expect("table checksum", struct.unpack_from("<I", data, end)[0], crc32c(data[128:end]))
        end += 4
        part = {}
        for n in range(sections):
            kind, flags, offset, length, checksum, alignment, reserved = struct.unpack_from(
                "<IIQQIIQ", data, 128 + 40 * n)
            name = KINDS[kind]
            expect(f"{name}: flags and reserved", (flags, reserved), (int(kind == 19), 0))
            expect(f"{name}: offset", offset, up(end, alignment))
            expect(f"{name}: padding", data[end:offset].strip(b"\0"), b"")
            end = offset + length
            part[name] = data[offset:end]
            expect(f"{name}: checksum", checksum, crc32c(part[name]))
        expect("end of the file", end, len(data))
        if not OUTLIERS & set(part):
            part.update((name, b"") for name in OUTLIERS)
        expect("kinds", sorted(part), sorted(set(KINDS.values()) - OWN_KINDS | self.KINDS_OF_ITS_OWN))

        # Meta, and how codes lie in `scan` and `rest`.
        expect("length of meta", len(part["meta"]), 112)
        (self.nlist, blocks, self.dims, keep, self.id_bytes, self.additive_bytes, self.lists, spec,
         spec_value, self.scale, self.low, self.step, self.correction, self.shift_step, self.noise,
         self.near_mean, self.near_deviation, spilled, number_bits, self.columns, self.weight,
         self.parts, self.spec_parts,
         self.column_bits) = struct.unpack_from("<QQIIIIIIQffffffffQIIfIII", part["meta"])
        expect_among("spec", spec, self.SPECS)
        expect_among("additive_bytes", self.additive_bytes,
                     self.STEPPED_BYTES if self.step > 0 else self.STEPLESS_BYTES)
        list_bits = (self.nlist - 1).bit_length()
        place_bytes = 4 if list_bits + number_bits <= 32 else 8
        expect("dims", self.dims, up(self.dim, 8))
        self.spec, self.spec_value = spec, spec_value
        if spec > 2:
            expect("fields of meta for SAQ", (self.correction, self.shift_step, self.noise,
                                              self.near_mean, self.near_deviation), (0,) * 5)
        if not 3 <= spec <= 10:
            expect("fields of meta for codebooks",
                   (self.columns, self.parts, self.spec_parts, self.column_bits), (0, 0, 0, 0))
        self.lay_out(part)
        self.block_bytes = self.code_bytes + 32 * sum(self.factor_sizes)

        # The other sections, each with its length.
        dim, dims, rows = self.dim, self.dims, self.nlist if self.lists else 0
        turned = dims if part["rotation-scales"] else 0
        lengths = {
            "mean": 4 * dim,
            "rotation-scales": 4 * turned,
            "rotation": 2 * up(turned, 16) * up(dim, 2),
            "list-factors": 16 * rows,
            "centroids-packed": up(rows, 16) * dims,
            "centroids": 2 * rows * dims,
            "list-table": 24 * (self.nlist + 1),
            "list-checksums": 4 * self.nlist * (2 if keep else 1),
            "scan": blocks * self.block_bytes,
            "spilled": place_bytes * spilled,
            "rest": self.count * self.rest_bytes,
            "ids": self.count * self.id_bytes,
            "kept": self.count * dim * [0, 2, 4][keep],
            "outlier-vectors": len(part["outlier-positions"]) // 8 * 4 * dim,
        }
        for name, length in lengths.items():
            expect(f"length of {name}", len(part[name]), length)
        self.scan, self.rest = part["scan"], part["rest"]
        self.mean = array("f", part["mean"])
        scales = array("f", part["rotation-scales"])
        packed = array("h", part["rotation"])
        self.rotation = [[scales[i] * packed[panel(i, j, dim)] if turned else float(i == j)
                          for j in range(dim)] for i in range(dims)]
        units = [struct.unpack_from("<f", part["list-factors"], 16 * list_ + 8)[0] / 256
                 for list_ in range(rows)]
        self.centroids = [units[n // dims] * x
                          for n, x in enumerate(array("h", part["centroids"]))]
        packed = array("b", part["centroids-packed"])
        for list_ in range(rows):
            row = self.centroid(list_)
            norm_sq, key, inverse, total = struct.unpack_from("<fffi", part["list-factors"],
                                                              16 * list_)
            near = [packed[list_ // 16 * 16 * dims + i // 4 * 64 + list_ % 16 * 4 + i % 4]
                    for i in range(dims)]
            expected = dot(row, row)
            close(f"packed centroid {list_}", inverse * dot(near, row), expected,
                  1e-2 * expected + 1e-9)
            close(f"norm of centroid {list_}", norm_sq, expected, 1e-3 * expected + 1e-9)
            expect(f"sum of packed centroid {list_}", total, sum(near))
            if not (key == 0 if self.metric == 1 else key >= norm_sq):
                sys.exit(f"key of list {list_}: {key}, squared norm {norm_sq}")
        self.table = [struct.unpack_from("<QQQ", part["list-table"], 24 * n)
                      for n in range(self.nlist + 1)]
        expect("first entry of list-table", self.table[0], (0, 0, 0))
        expect("last entry of list-table", self.table[-1], (self.count, blocks, spilled))
        checksums = array("I", part["list-checksums"])
        for list_ in range(self.nlist):
            (vector, block, copy), (vectors, blocks_, copies) = self.table[list_:list_ + 2]
            pieces = [("scan", block, blocks_, self.block_bytes), ("spilled", copy, copies, place_bytes),
                      ("rest", vector, vectors, self.rest_bytes), ("ids", vector, vectors, self.id_bytes)]
            whole = b"".join(part[name][first * size:last * size] for name, first, last, size in pieces)
            expect(f"checksum of list {list_}", checksums[list_], crc32c(whole))
            if keep:
                size = dim * [0, 2, 4][keep]
                expect(f"checksum of the kept vectors of list {list_}", checksums[self.nlist + list_],
                       crc32c(part["kept"][vector * size:vectors * size]))
        places = array("I" if place_bytes == 4 else "Q", part["spilled"])
        copied = set()
        for list_ in range(self.nlist):
            (vector, _, copy), (end, _, last) = self.table[list_:list_ + 2]
            for n in range(copy, last):
                of, number = places[n] >> number_bits, places[n] & (1 << number_bits) - 1
                if of == list_ or self.table[of][0] + number >= self.table[of + 1][0]:
                    sys.exit(f"copy {n} in list {list_}: vector {number} of list {of}")
                expect(f"bytes of copy {n}", self.head(list_, end - vector + n - copy),
                       self.head(of, number))
                copied.add((of, number))
        expect("vectors with copies", len(copied), spilled)
        self.spilled = spilled
        ids = struct.unpack(f"<{self.count}{'I' if self.id_bytes == 4 else 'Q'}", part["ids"])
        self.position = {id_: position for position, id_ in enumerate(ids)}
        expect("different ids", len(self.position), self.count)
        self.keep, self.kept_bytes = keep, part["kept"]
        positions, values = array("Q", part["outlier-positions"]), array("f", part["outlier-vectors"])
        expect("order of outliers", list(positions), sorted(set(positions)))
        self.outliers = {position: values[n * dim:(n + 1) * dim]
                         for n, position in enumerate(positions)}

    def kept(self, position):
        size, code = (2, "e") if self.keep == 1 else (4, "f")
        return struct.unpack_from(f"<{self.dim}{code}", self.kept_bytes, position * self.dim * size)

    def centroid(self, list_):
        if not self.lists:
            return [0.0] * self.dims
        return self.centroids[list_ * self.dims:(list_ + 1) * self.dims]

    def head(self, list_, number):
        """The first codes of a vector or copy of a list, and its factors: its bytes in `scan`."""
        lane = number % 32
        at = (self.table[list_][1] + number // 32) * self.block_bytes
        block = self.scan[at:at + self.block_bytes]
        factors, offset = [], self.code_bytes
        for size in self.factor_sizes:
            factors.append(block[offset + lane * size:offset + (lane + 1) * size])
            offset += 32 * size
        return self.first_codes(block, lane), factors

    def find(self, position):
        """The list of a vector, and its head."""
        list_ = max(n for n in range(self.nlist) if self.table[n][0] <= position)
        return list_, self.head(list_, position - self.table[list_][0])

    def additive(self, raw):
        """What an additive factor stands for."""
        if len(raw) == 4:
            return struct.unpack("<f", raw)[0]
        above, below, away = {
            1: (192, 224, lambda m: 4.0 ** m),
            2: (57344, 61440, lambda m: 2.0 ** (m // 32) * (1 + m % 32 / 32)),
        }[len(raw)]
        a = int.from_bytes(raw, "little")
        if a < above:
            return self.low + self.step * a
        if a < below:
            return self.low + self.step * (above - 1) + self.step * away(a - above)
        return self.low - self.step * away(a - below)

    def decode(self, position):
        list_, point = self.point(position)
        y = [a + b for a, b in zip(point, self.centroid(list_))]
        return [(self.mean[j] + sum(self.rotation[i][j] * y[i] for i in range(self.dims)))
                / self.scale for j in range(self.dim)]

    def rotate(self, query):
        """The query in units of the index, and rotated."""
        if self.metric == 2:
            norm = sqrt(dot(query, query))
            query = [x / norm for x in query]
        query = [x * self.scale for x in query]
        centred = [x - m for x, m in zip(query, self.mean)]
        return query, [dot(row, centred) for row in self.rotation]

    def list_key(self, rotated, c):
        """What the keys of the vectors of a list with centroid c have in common, and alpha."""
        query, q = rotated
        inner_product = self.metric == 1
        alpha = 1 if inner_product else 2
        return (-dot(query, self.mean) if inner_product else dot(q, q)) - alpha * dot(q, c), alpha

    def exact(self, rotated, position):
        """The distance of an outlier."""
        query, values = rotated[0], self.outliers[position]
        if self.metric == 1:
            return self.distance(-dot(query, values))
        return self.distance(sum((a - b) ** 2 for a, b in zip(query, values)))

    def distance(self, key):
        if self.metric == 0:
            return max(key, 0.0) / self.scale ** 2
        if self.metric == 1:
            return -key / self.scale ** 2
        return min(max(key / 2, 0.0), 2.0)


class Saq(Index):
    KINDS_OF_ITS_OWN = {"segments"}
    SPECS = (0, 1, 2)
    STEPPED_BYTES, STEPLESS_BYTES = (2,), (4,)

    def lay_out(self, part):
        expect("fields of meta for additive quantizers",
               (self.columns, self.weight, self.parts, self.spec_parts), (0,) * 4)
        start = group = rest = 0
        self.factor_sizes = [self.additive_bytes] + [1] * self.lists
        self.segments = []
        for at in range(0, len(part["segments"]), 40):
            s = {}
            (s["dims"], s["bits"], s["scan_bits"], s["unit"], s["inner"], s["outer"],
             s["full_error"], s["scan_error"], s["norm"],
             s["typical"]) = struct.unpack_from("<IIIfffffff", part["segments"], at)
            s["rest_bits"] = s["bits"] - s["scan_bits"]
            s["start"], s["group"], s["rest_scale"] = start, group, rest
            s["factor"] = len(self.factor_sizes)  # which one, not its offset
            s["scale_bytes"] = 1 if s["bits"] <= 4 else 2
            start += s["dims"]
            group += s["dims"] * s["scan_bits"] // 4
            if s["scan_bits"]:
                self.factor_sizes.append(s["scale_bytes"])
            else:
                rest += s["scale_bytes"]
            self.segments.append(s)
        for s in self.segments:
            s["rest_start"] = rest
            rest += s["dims"] * s["rest_bits"] // 8
        expect("dimensions of the segments", start, self.dims)
        self.code_bytes, self.rest_bytes = 16 * group, rest

    def first_codes(self, block, lane):
        """The 4 bits of each group."""
        high = 4 if lane >= 16 else 0
        return [byte >> high & 15 for byte in block[lane % 16:self.code_bytes:16]]

    def vector(self, position):
        """List, code, tops of the first stage, scales, additive factor and shift."""
        list_, (groups, factors) = self.find(position)
        row = self.rest[position * self.rest_bytes:(position + 1) * self.rest_bytes]
        codes, tops, scales = [], [], []
        for s in self.segments:
            n, width = s["dims"], s["scan_bits"]
            top = [0] * n
            for i in range(n if width else 0):
                per_group = 4 // width
                nibble = groups[s["group"] + i // per_group]
                top[i] = nibble >> width * (i % per_group) & (1 << width) - 1
            code = [t << s["rest_bits"] for t in top]
            at, left = s["rest_start"], s["rest_bits"]
            while left > 0:
                w = 4 if left >= 4 else 2 if left >= 2 else 1
                left -= w
                for i in range(n):
                    if w == 4:
                        byte, bit = i % (n // 2), 4 * (i // (n // 2))
                    elif w == 2:
                        byte, bit = i % (n // 4), 2 * (i // (n // 4))
                    else:
                        byte, bit = i // 8, i % 8
                    code[i] |= (row[at + byte] >> bit & (1 << w) - 1) << left
                at += n * w // 8
            if s["scan_bits"]:
                raw = factors[s["factor"]]
            else:
                raw = row[s["rest_scale"]:s["rest_scale"] + s["scale_bytes"]]
            k = int.from_bytes(raw, "little")
            if k == 0:
                scale = 0.0
            elif s["scale_bytes"] == 1:
                scale = 2.0 ** (k // 32 - 3) * (1 + k % 32 / 32)
            else:
                scale = 2.0 ** (k // 4096 - 8) * (1 + k % 4096 / 4096)
            codes.append(code)
            tops.append(top)
            scales.append(scale * s["unit"])
        shift = 0.0
        if self.lists:
            h = factors[1][0]
            shift = (h - 128) * self.shift_step if h else -inf
        return list_, codes, tops, scales, self.additive(factors[0]), shift

    def point(self, position):
        """The list of a vector, and the best guess of its residual."""
        list_, codes, _, scales, _, _ = self.vector(position)
        point = []
        for s, code, scale in zip(self.segments, codes, scales):
            if s["bits"] == 0:
                point += [0.0] * s["dims"]
                continue
            shorter = s["norm"] ** 2 / (s["norm"] ** 2 + s["full_error"] ** 2)
            half = (2 ** s["bits"] - 1) / 2
            point += [(c - half) * scale * shorter for c in code]
        return list_, point

    def estimate(self, rotated, position, confidence=3.0):
        """Distance, and a lower bound of the key less the key."""
        _, q = rotated
        list_, codes, tops, scales, additive, shift = self.vector(position)
        c = self.centroid(list_)
        k, alpha = self.list_key(rotated, c)
        energy, product = [], 0.0
        lower = k + additive + shift
        for s, code, top, scale in zip(self.segments, codes, tops, scales):
            part = range(s["start"], s["start"] + s["dims"])
            energy.append(sum((q[i] - c[i]) ** 2 for i in part))
            if s["bits"]:
                half = (2 ** s["bits"] - 1) / 2
                product += scale * sum(q[i] * (code[i - s["start"]] - half) for i in part)
            if s["scan_bits"]:
                level = [-s["inner"], s["inner"]]
                if s["scan_bits"] == 2:
                    level = [-s["outer"], -s["inner"], s["inner"], s["outer"]]
                lower -= alpha * scale * sum(q[i] * level[top[i - s["start"]]] for i in part)
        # What is not read, and the errors of what is.
        usual = [s["norm"] ** 2 * s["dims"] * s["typical"] ** 2 for s in self.segments]
        unread = sum(u for s, u in zip(self.segments, usual) if not s["scan_bits"])
        unseen = sqrt(sum(energy) * unread / sum(usual))
        size, sizes, deviation, deviations = 0.0, 0.0, 0.0, 0.0
        for s, u, scale in zip(self.segments, usual, scales):
            if s["scan_bits"]:
                e, t = s["norm"] ** 2 * s["dims"], s["typical"]
                v = (s["scan_error"] ** 2 * sum(energy) * u / sum(usual)
                     + (self.near_deviation * unseen) ** 2 * e)
                size, sizes = size + e * t * scale, sizes + e * t * t
                deviation, deviations = deviation + v * t * scale, deviations + v * t * t
        lower -= alpha * self.near_mean * unseen * size / sqrt(sizes)
        lower -= alpha * confidence * deviation / sqrt(deviations)
        key = k + additive - alpha * product
        with_bits = [n for n, s in enumerate(self.segments) if s["bits"]]
        tail = scales[-1] if self.segments[-1]["bits"] == 0 else 0.0
        norm_sq = sum(self.segments[n]["norm"] ** 2 * self.segments[n]["dims"] * scales[n] ** 2
                      for n in with_bits)
        kept_energy = sum(energy[n] for n in with_bits)
        if tail > 0 and self.correction > 0 and norm_sq > 0 and kept_energy > 0:
            d = (norm_sq + tail ** 2 + sum(energy) - key) / 2 if self.lists else product
            cosine = min(max(d / sqrt(norm_sq * kept_energy), 0.0), 1.0)
            key -= alpha * self.correction * cosine ** 2 * tail * sqrt(energy[-1])
        return self.distance(key), lower - key


class Additive(Index):
    KINDS_OF_ITS_OWN = {"codebooks", "codebook-scales", "codebook-offsets"}
    SPECS = tuple(range(3, 11))
    STEPPED_BYTES, STEPLESS_BYTES = (1, 2), (0, 4)

    def lay_out(self, part):
        self.bits = self.column_bits
        expect_among("column_bits", self.bits, range(1 if 5 <= self.spec <= 8 else 4, 13))
        self.numbers = 2 ** self.bits
        expect_among("columns", self.columns, range(1, 2048 // self.bits + 1))
        expect_among("parts", self.parts, range(1, min(self.columns, self.dim) + 1))
        # For each column the first dimension, how many, and where its centroids lie.
        self.column, start, at = [], 0, 0
        for p in range(self.parts):
            dims = self.dim // self.parts + (p < self.dim % self.parts)
            if p + 1 == self.parts:
                dims = self.dims - start
            levels = self.columns // self.parts + (p < self.columns % self.parts)
            self.column += [(start, dims, at, self.numbers * level) for level in range(levels)]
            start += dims
            at += up(self.numbers * levels, 16) * up(dims, 2)
        rows = self.numbers * self.columns
        expect("length of codebook-scales", len(part["codebook-scales"]), 4 * rows)
        expect("length of codebooks", len(part["codebooks"]), 2 * at)
        expect("length of codebook-offsets", len(part["codebook-offsets"]),
               0 if self.additive_bytes else 4 * rows)
        self.row_scales = array("f", part["codebook-scales"])
        self.codebooks = array("h", part["codebooks"])
        self.offsets = array("f", part["codebook-offsets"])
        self.factor_sizes = [self.additive_bytes]
        self.code_bytes, self.rest_bytes = 32 * up(self.columns * self.bits, 8) // 8, 0

    def first_codes(self, block, lane):
        """The number of a centroid for each column."""
        if self.bits == 8:
            return block[lane:self.code_bytes:32]
        if self.bits == 4:
            return [block[16 * k + lane % 16] >> 4 * (lane // 16) & 15 for k in range(self.columns)]
        size = self.code_bytes // 32
        code = int.from_bytes(block[lane * size:(lane + 1) * size], "little")
        return [code >> self.bits * k & self.numbers - 1 for k in range(self.columns)]

    def sum(self, code):
        """The sum of the centroids of a code."""
        out = [0.0] * self.dims
        for k, ((start, dims, at, row), number) in enumerate(zip(self.column, code)):
            scale = self.row_scales[self.numbers * k + number]
            for i in range(dims):
                out[start + i] += scale * self.codebooks[at + panel(row + number, i, up(dims, 2))]
        return out

    def point(self, position):
        list_, (code, _) = self.find(position)
        return list_, self.sum(code)

    def estimate(self, rotated, position):
        """Distance. All is read at once: there is no lower bound, as if it were always below."""
        list_, (code, (factor,)) = self.find(position)
        k, alpha = self.list_key(rotated, self.centroid(list_))
        product = dot(rotated[1], self.sum(code))
        if self.additive_bytes:
            k += self.additive(factor)
        else:
            product += sum(self.offsets[self.numbers * k + number] for k, number in enumerate(code))
        return self.distance(k - alpha * self.weight * product), -inf


class Scalar(Index):
    KINDS_OF_ITS_OWN = {"ranges"}
    SPECS = (11, 12, 13)
    STEPPED_BYTES, STEPLESS_BYTES = (1, 2), (4,)

    def lay_out(self, part):
        self.own = self.spec != 11
        self.first, self.second = (4, self.spec_value) if self.spec == 13 else (self.spec_value, 0)
        expect_among("bits of the first level", self.first, range(4, 9))
        self.rest_bits = self.first + self.second - 4
        ranges = array("f", part["ranges"])
        expect("length of ranges", len(ranges), 0 if self.own else 2 * self.dims)
        self.ranges = list(zip(ranges[::2], ranges[1::2]))
        self.factor_sizes = [self.additive_bytes] + [2, 2] * self.own
        self.code_bytes, self.rest_bytes = 16 * self.dims, self.dims * self.rest_bits // 8

    def first_codes(self, block, lane):
        """The upper 4 bits of each dimension."""
        return [block[16 * i + lane % 16] >> 4 * (lane // 16) & 15 for i in range(self.dims)]

    def point(self, position):
        list_, (tops, factors) = self.find(position)
        row = self.rest[position * self.rest_bytes:(position + 1) * self.rest_bytes]
        codes, left, at = [top << self.rest_bits for top in tops], self.rest_bits, 0
        while left:
            width = 4 if left >= 4 else 2 if left >= 2 else 1
            left -= width
            size = self.dims * width // 8
            for i in range(self.dims):
                byte, bit = (i // 8, i % 8) if width == 1 else (i % size, width * (i // size))
                codes[i] += (row[at + byte] >> bit & (1 << width) - 1) << left
            at += size
        if self.own:
            least, most = (struct.unpack("<e", end)[0] for end in factors[1:])
            parts = 2 ** self.second
            step = (most - least) / (2 ** self.first - 1) / parts
            ranges = [(least - step * (parts - 1) / 2, step)] * self.dims
        else:
            ranges = self.ranges
        return list_, [low + step * code for (low, step), code in zip(ranges, codes)]

    def estimate(self, rotated, position):
        """Distance. The lower bound is not the document's."""
        list_, (_, factors) = self.find(position)
        k, alpha = self.list_key(rotated, self.centroid(list_))
        product = dot(rotated[1], self.point(position)[1])
        return self.distance(k + self.additive(factors[0]) - alpha * self.weight * product), -inf


class Float(Index):
    SPECS = (14, 15, 16)
    STEPPED_BYTES, STEPLESS_BYTES = (), (0,)

    def lay_out(self, part):
        expect("spec_value", self.spec_value, 32 if self.spec == 16 else 16)
        expect("weight", self.weight, 0)
        self.value_bytes = self.spec_value // 8
        self.factor_sizes, self.code_bytes, self.rest_bytes = [], 32 * self.value_bytes * self.dims, 0

    def first_codes(self, block, lane):
        """The values, relative to the mean."""
        size = self.value_bytes
        words = [block[size * (32 * i + lane):][:size] for i in range(self.dims)]
        if self.spec == 16:
            return [struct.unpack("<f", word)[0] for word in words]
        if self.spec == 15:
            return [struct.unpack("<f", b"\0\0" + word)[0] for word in words]
        return [struct.unpack("<e", word)[0] for word in words]

    def point(self, position):
        # No centroid is to be added.
        list_, (values, _) = self.find(position)
        return list_, [x - c for x, c in zip(values, self.centroid(list_))]

    def estimate(self, rotated, position):
        """Distance. All is read at once: there is no lower bound, as if it were always below."""
        _, (values, _) = self.find(position)
        k, _ = self.list_key(rotated, [0.0] * self.dims)
        if self.metric == 1:
            mean = list(self.mean) + [0.0] * (self.dims - self.dim)
            key = k - sum(x * (q + m) for x, q, m in zip(values, rotated[1], mean))
        else:
            key = k + sum(x * (x - 2 * q) for x, q in zip(values, rotated[1]))
        return self.distance(key), -inf


QUANTIZERS = {1: Saq, 2: Additive, 3: Scalar, 4: Float}


def close(what, found, expected, tolerance):
    if not abs(found - expected) <= tolerance:
        sys.exit(f"{what}: expected {expected} within {tolerance}, found {found}")


def read_npy(path):
    """Rows of a two-dimensional array."""
    with open(path, "rb") as file:
        data = file.read()
    size = struct.unpack_from("<H", data, 8)[0]
    header = eval(data[10:10 + size], {"__builtins__": {}})  # a literal, from our own tool
    code = {"<f4": "f", "<f2": "e", "<i4": "i", "<i8": "q", "<u8": "Q"}[header["descr"]]
    rows, columns = header["shape"]
    values = struct.unpack_from(f"<{rows * columns}{code}", data, 10 + size)
    return [values[row * columns:(row + 1) * columns] for row in range(rows)]


def main():
    index_path, query_path, ids_path, distances_path = sys.argv[1:]
    with open(index_path, "rb") as file:
        data = file.read()
    index = QUANTIZERS[struct.unpack_from("<I", data, 36)[0]](data)
    queries, found, distances = map(read_npy, (query_path, ids_path, distances_path))
    worst = above = compared = 0
    for query, ids, row in list(zip(queries, found, distances))[:QUERIES]:
        rotated = index.rotate(query)
        norm = sqrt(dot(rotated[1], rotated[1]))
        for id_, distance in zip(ids, row):
            position = index.position[id_]
            if position in index.outliers:
                estimate, excess = index.exact(rotated, position), 0
            else:
                estimate, excess = index.estimate(rotated, position)
            worst = max(worst, abs(estimate - distance))
            close(f"distance of id {id_}", estimate, distance,
                  3e-4 * norm / index.scale ** 2 + 1e-4 * abs(distance))
            above += excess > 0
            compared += 1
    if above > 0.05 * compared:
        sys.exit(f"{above} of {compared} lower bounds lie above their estimates")
    decoded = lost = 0.0
    errors = []
    if index.keep:
        for position in range(0, index.count, max(index.count // 10, 1)):
            kept, vector = index.kept(position), index.decode(position)
            spread = [k - m / index.scale for k, m in zip(kept, index.mean)]
            decoded += dot(spread, spread)
            error = sum((a - b) ** 2 for a, b in zip(vector, kept))
            lost += error
            if position not in index.outliers:
                errors.append(error)
        for position, exact in list(index.outliers.items())[:10]:
            kept, vector = index.kept(position), index.decode(position)
            for i in range(index.dim):
                close(f"value {i} of the outlier at {position}", exact[i] / index.scale, kept[i],
                      1e-3 * abs(kept[i]) + 1e-7)
            error = sum((a - b) ** 2 for a, b in zip(vector, kept))
            if error < 0.99 * max(errors):
                sys.exit(f"outlier at {position}: its code loses {error}, others {max(errors)}")
        if not lost < 0.5 * decoded:
            sys.exit(f"decoding loses {lost} of {decoded}")
    share = f"{lost / decoded:.5f} of their energy lost" if decoded else "nothing kept"
    print(f"{compared} distances agree within {worst:.2g}; decoded vectors: {share};"
          f" {index.spilled} copies, {len(index.outliers)} outliers")


main()
