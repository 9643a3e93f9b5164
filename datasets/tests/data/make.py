"""Writes the small files beside it, with numpy, h5py and pyarrow: files as others make them.

Each holds 7 rows of 3 values, value 3 * row + column, in a column or dataset of its own kind.
"""

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

x = np.arange(21, dtype="f4").reshape(7, 3)
texts = pa.array([f"text {i}" for i in range(7)])


def fixed(kind):
    return pa.FixedSizeListArray.from_arrays(pa.array(x.ravel().astype(kind)), 3)


def table(**columns):
    return pa.table({"id": pa.array(range(7)), **columns, "text": texts})


lists = pa.array(x.tolist(), pa.list_(pa.float32()))
large = pa.array(x.tolist(), pa.large_list(pa.float64()))
pq.write_table(table(v=lists), "list.parquet", compression="snappy", row_group_size=3)
pq.write_table(table(v=fixed("f4")), "fixed.parquet", compression="gzip", row_group_size=4)
pq.write_table(table(v=fixed("f2")), "half.parquet", compression="lz4", data_page_version="2.0")
pq.write_table(table(v=large), "double.parquet", compression="none", use_dictionary=False)
pq.write_table(table(v=lists), "zstd.parquet", compression="zstd")
pq.write_table(table(v=lists, w=fixed("f4")), "two.parquet")

colours = pa.array(["red", "blue"] * 3 + ["red"]).dictionary_encode()
feather.write_feather(
    pa.table({"c": colours, "v": fixed("f4")}), "lz4.feather", compression="lz4", chunksize=3
)
feather.write_feather(table(v=lists), "zstd.feather", compression="zstd")
with pa.ipc.new_file("file.arrow", table(v=large).schema) as writer:
    writer.write_table(table(v=large), max_chunksize=2)
with pa.ipc.new_stream("stream.arrow", table(v=fixed("f2")).schema) as writer:
    writer.write_table(table(v=fixed("f2")), max_chunksize=5)

with h5py.File("bench.hdf5", "w") as f:
    f.attrs["distance"] = "euclidean"
    f["train"] = x
    f["test"] = x[:2]
    f["neighbors"] = np.array([[0, 1], [1, 0]], dtype="i4")
    f["distances"] = np.array([[0, 27], [0, 27]], dtype="f4")
with h5py.File("kinds.hdf5", "w") as f:
    f.create_dataset("gzip", data=x.astype("f8"), chunks=(2, 2), compression="gzip", shuffle=True)
    f.create_dataset("half", data=x.astype("f2"))
    f.create_dataset("bytes", data=x.astype("u1"), chunks=(4, 3))
    f.create_dataset("signed", data=x.astype("i1"))
    f.create_dataset("big", data=x.astype(">f4"))
    f.create_dataset("flat", data=x.ravel())
    f.create_dataset("neighbors", data=x.astype("i8"), chunks=(3, 3), compression="gzip")
    f.create_dataset("unwritten", shape=(7, 3), dtype="f4")
    f.create_group("group")["inner"] = x
