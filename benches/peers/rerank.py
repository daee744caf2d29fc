"""Rerank throughput in chunks a CPU second against PyLate's scorer (PyTorch): 1 query of 32 and of 200 tokens, 100 and 1000 chunks of 100
tokens, 128 and 384 dimensions, the same unit token states in memory on both sides (encoding is benchmark `encode`), one
thread. PyLate's documents are stacked beforehand, which is its best case. The sums of all scores must agree before
anything is timed. Both sides are measured by CPU time, because wall time on a shared machine says nothing; what our
program takes to start, read the states and score them once is measured alone and subtracted. Each side's best round counts.
"""
import itertools
import json
import os
import resource
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


def run(ours, path, dim, tokens, seconds):
    """CPU seconds of a run of our side, and what it printed."""
    used = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])  # noqa: E731
    before = used()
    out = subprocess.run([ours, path, str(dim), str(tokens), "100", "1", seconds], check=True, stdout=subprocess.PIPE, text=True)
    return used() - before, json.loads(out.stdout)


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
        best_ours, best_peer = 0.0, 0.0
        for _ in range(ROUNDS):
            idle, _ = run(ours, path, dim, tokens, "0")
            used, line = run(ours, path, dim, tokens, SECONDS)
            assert abs(line["sum"] - expected) < 1e-3 * abs(expected), (line, expected)
            best_ours = max(best_ours, line["documents_per_second"] * float(SECONDS) / (used - idle))
            rounds, start, began = 0, time.perf_counter(), time.process_time()
            while time.perf_counter() - start < float(SECONDS):
                score()
                rounds += 1
            best_peer = max(best_peer, rounds * documents / (time.process_time() - began))
        results.append(peer.result(f"{tokens} query tokens, {documents} chunks, {dim}-d", "chunks/CPU-s", best_ours, best_peer,
                                   "PyLate, 1 thread"))
    peer.report("rerank", results)


if __name__ == "__main__":
    main()
