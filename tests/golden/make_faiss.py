#!/usr/bin/env python3
"""Writes small FAISS index files as other programs write them, for tests of opening them as spaces.

    pip install faiss-cpu numpy
    python3 make_faiss.py

Vector i, element d is 2 * u - 1, u = splitmix64(i * 2^32 + d) >> 40, divided by 2^24; its id is 5_000_000_000 + 7 * i.
"""
import faiss
import numpy as np
from seeded import splitmix64

ROWS, DIM = 64, 8


def main():
    unit = [[(splitmix64((i << 32) + d) >> 40) / 2.0**24 for d in range(DIM)] for i in range(ROWS)]
    vectors = (2.0 * np.array(unit) - 1.0).astype(np.float32)
    ids = 5_000_000_000 + 7 * np.arange(ROWS, dtype=np.int64)
    for name, factory, metric in [("product", "IDMap,IVF4,Flat", faiss.METRIC_INNER_PRODUCT), ("distance", "IDMap,Flat", faiss.METRIC_L2)]:
        index = faiss.index_factory(DIM, factory, metric)
        index.train(vectors)
        index.add_with_ids(vectors, ids)
        faiss.write_index(index, f"{name}.faiss")


if __name__ == "__main__":
    main()
