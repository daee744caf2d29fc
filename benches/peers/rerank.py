"""Rerank throughput in chunks a second against PyLate's scorer (PyTorch): 1 query of 32 and of 200 tokens, 100 and 1000 chunks of 100
tokens, 128 and 384 dimensions, the same unit token states in memory on both sides (encoding is benchmark `encode`), one
thread. PyLate's documents are stacked beforehand, which is its best case. The sums of all scores must agree before
anything is timed; each side's best round counts.
"""
import itertools
import json
import os
import subprocess
import time

import peer

peer.enter("pylate", ["pylate"])

import numpy as np  # noqa: E402
import torch  # noqa: E402
from pylate import scores  # noqa: E402

torch.set_num_threads(1)
SECONDS = os.environ.get("SECONDS_EACH", "3")
ROUNDS = int(os.environ.get("ROUNDS", "5"))


def main():
    ours = peer.binary("rerank")
    results = []
    for dim, tokens, documents in itertools.product((128, 384), (32, 200), (100, 1000)):
        rng = np.random.default_rng(dim + documents)
        rows = rng.standard_normal((tokens + documents * 100, dim)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        path = peer.SCRATCH / "states.f32"
        rows.tofile(path)
        q = torch.from_numpy(rows[:tokens])[None]
        d = torch.from_numpy(rows[tokens:].reshape(documents, 100, dim))
        score = lambda: scores.colbert_scores(q, d)  # noqa: E731
        expected = float(score().sum()) / tokens
        best_ours, best_peer = float("inf"), float("inf")
        for _ in range(ROUNDS):
            out = subprocess.run([ours, path, str(dim), str(tokens), "100", "1", SECONDS], check=True, stdout=subprocess.PIPE, text=True)
            line = json.loads(out.stdout)
            assert abs(line["sum"] - expected) < 1e-3 * abs(expected), (line, expected)
            best_ours = min(best_ours, line["best_ms"])
            start = time.perf_counter()
            while time.perf_counter() - start < float(SECONDS):
                one = time.perf_counter()
                score()
                best_peer = min(best_peer, (time.perf_counter() - one) * 1e3)
        rate = lambda ms: documents / ms * 1e3  # noqa: E731
        results.append(peer.result(f"{tokens} query tokens, {documents} chunks, {dim}-d", "chunks/s", rate(best_ours), rate(best_peer),
                                   "PyLate, 1 thread"))
    peer.report("rerank", results)


if __name__ == "__main__":
    main()
