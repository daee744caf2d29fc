"""Builds indexes of infini-gram with its package's own sorter, from tokens instead of texts (its own tokenizing step needs `transformers`)."""
import os
import pathlib
import shutil
import subprocess

import infini_gram
import numpy as np


def together(*commands):
    """Runs commands at the same time. CPU seconds of all, KiB of memory that they had at their peaks together."""
    jobs = [subprocess.Popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for c in commands]
    cpu = peak = 0
    for job in jobs:
        _, status, used = os.wait4(job.pid, 0)
        assert status == 0, (job.args, status)
        cpu, peak = cpu + used.ru_utime + used.ru_stime, peak + used.ru_maxrss
    return cpu, peak


def write(stream, separator, out):
    """Writes tokenized.0 and offset.0 of a stream of documents that each end with `separator`: there they are preceded by an id of ones."""
    out.mkdir(parents=True, exist_ok=True)
    ends = np.flatnonzero(stream == separator)
    starts = np.concatenate([[0], ends[:-1] + 1])
    moved = np.empty_like(stream)
    for a, b in zip(starts, ends):
        moved[a] = np.iinfo(stream.dtype).max
        moved[a + 1:b + 1] = stream[a:b]
    moved.tofile(out / "tokenized.0")
    (starts * stream.itemsize).astype(np.uint64).tofile(out / "offset.0")


def sort(out, shard="0", width=2):
    """Sorts tokenized.SHARD into table.SHARD, as the package's indexing.py does. CPU seconds, and KiB at the peak."""
    tool = pathlib.Path(infini_gram.__file__).parent / "rust_indexing"
    os.chmod(tool, 0o755)
    tokens = out / f"tokenized.{shard}"
    size, threads = tokens.stat().st_size, os.cpu_count()
    ratio = -(-(size - 1).bit_length() // 8)
    parts, merged = out / "parts", out / "merged"
    for d in (parts, merged):
        shutil.rmtree(d, ignore_errors=True)
        d.mkdir()
    # Parts that are shorter than the 100,000 bytes they overlap by are merged into a table that is no permutation.
    if size < threads * 200_000:
        threads = 1
    step = size // threads // width * width
    ends = [size if i == threads - 1 else min((i + 1) * step + 100_000, size) for i in range(threads)]
    used = [together(*(
        [tool, "make-part", "--data-file", tokens, "--parts-dir", parts, "--start-byte", str(i * step), "--end-byte", str(end),
         "--ratio", str(ratio), "--token-width", str(width)] for i, end in enumerate(ends)))]
    shared = ["--ratio", str(ratio), "--token-width", str(width), "--num-threads", str(threads)]
    for command in (["merge", "--data-file", tokens, "--parts-dir", parts, "--merged-dir", merged, "--hacksize", "100000"],
                    ["concat", "--data-file", tokens, "--merged-dir", merged, "--merged-file", out / f"table.{shard}"]):
        used.append(together([tool, *command, *shared]))
    for d in (parts, merged):
        shutil.rmtree(d)
    return sum(cpu for cpu, _ in used), max(peak for _, peak in used)
