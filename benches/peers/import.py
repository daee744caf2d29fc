"""An index of infini-gram opened in place: how long opening takes, whether 10,000 counts agree with the package, and at what latency.

    benches/peers/run import [CORPUS]

CORPUS (default: $PRIORART_DATA/corpora) is tokenised with gpt2 by `priorart build`, whose token stream the package sorts into its own index; that
index is then imported and asked beside the package, which prefetches nothing (its faster setting when warm). PRIORART_BENCH_BIN names the
executable of the benchmark `exact` and PRIORART_BIN_DIR the directory of `priorart` and `index-tools` where they are built already.
"""
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

import peer

peer.enter("import", ["infini-gram==2.6.0", "numpy"])

import numpy as np  # noqa: E402
from infini_gram.engine import InfiniGramEngine  # noqa: E402
from peer import infinigram  # noqa: E402

WORK = peer.SCRATCH / "import-work"
LENGTHS = (1, 2, 3, 5, 8, 13, 20)


def run(*command, **options):
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def main():
    corpus = sys.argv[1] if len(sys.argv) > 1 else str(pathlib.Path(os.environ["PRIORART_DATA"]) / "corpora")
    WORK.mkdir(parents=True, exist_ok=True)
    bench, priorart, tools = peer.binary("exact"), peer.program("priorart"), peer.program("index-tools")
    theirs, built, ours = WORK / "infini-gram", WORK / "built", WORK / "imported"
    if not (theirs / "table.0").exists():
        shutil.rmtree(built, ignore_errors=True)
        run(priorart, "build", "-q", "--index", built, "--tokenizer", "gpt2", corpus)
        exported = json.loads(run(bench, "export", built, WORK / "tokens.u16"))
        stream = np.fromfile(WORK / "tokens.u16", dtype=np.uint16)
        infinigram.write(stream, exported["separator"], theirs)
        infinigram.sort(theirs)
    stream = np.fromfile(theirs / "tokenized.0", dtype=np.uint16)
    tokens = int((stream != 0xFFFF).sum())

    begin = time.perf_counter()
    engine = InfiniGramEngine(index_dir=str(theirs), eos_token_id=50256, vocab_size=65535, token_dtype="u16",
                              ds_prefetch_depth=0, sa_prefetch_depth=0, od_prefetch_depth=0)
    their_open = (time.perf_counter() - begin) * 1e3
    shutil.rmtree(ours, ignore_errors=True)
    begin = time.perf_counter()
    print(run(tools, "import", "infini-gram", theirs, "--index", ours), end="", file=sys.stderr)
    import_ms = (time.perf_counter() - begin) * 1e3

    rng = random.Random(11)
    queries = []
    while len(queries) < 10_000:
        n = LENGTHS[len(queries) % len(LENGTHS)]
        at = rng.randrange(len(stream) - n)
        query = stream[at:at + n].tolist()
        if len(queries) % 4 == 3:
            query[-1] = int(stream[rng.randrange(len(stream))])
        if 0xFFFF not in query:
            queries.append(query)
    expected, latencies = [], {n: [] for n in LENGTHS}
    for query in queries:
        begin = time.perf_counter()
        count = engine.count(input_ids=query)["count"]
        latencies[len(query)].append((time.perf_counter() - begin) * 1e6)
        expected.append(count)
    (WORK / "queries.txt").write_text("".join(" ".join(map(str, q)) + "\n" for q in queries))
    rows = run(priorart, "count", "--index", ours, "--queries-file", WORK / "queries.txt", "--format", "jsonl").splitlines()
    counts = [json.loads(row)["count"] for row in rows]
    agree = sum(a == b for a, b in zip(counts, expected, strict=True))

    by_length = {f"count {n}": [q for q in queries if len(q) == n] for n in LENGTHS}
    (WORK / "queries.json").write_text(json.dumps(by_length))
    # The best of three: the first may find the files out of the page cache.
    answers = [json.loads(run(bench, "query", ours, WORK / "queries.json", 0)) for _ in range(3)]
    opened = min(answer["open_ms"] for answer in answers)

    results = [
        {"metric": "open the imported index", "unit": "ms", "ours": round(opened, 3), "peer": 100.0, "peer_name": "goal",
         "ratio": round(100 / opened, 3), "goal": 1.0, "met": opened <= 100},
        {"metric": "counts that agree, of 10,000", "unit": "queries", "ours": agree, "peer": len(queries), "peer_name": "infini-gram",
         "ratio": round(agree / len(queries), 6), "goal": 1.0, "met": agree == len(queries)},
        peer.result("open", "ms", opened, their_open, "infini-gram", 0, False),
    ]
    for n in LENGTHS:
        mine = min(answer[f"count {n}"]["p50"] for answer in answers)
        results.append(peer.result(f"count n={n} p50", "µs", mine, sorted(latencies[n])[len(latencies[n]) // 2],
                                   "infini-gram, prefetch off", 1.0, False))
    notes = {"tokens": tokens, "documents": int((stream == 0xFFFF).sum()), "import_command_ms": round(import_ms, 1),
             "load_average": os.getloadavg()[0],
             "different": [queries[i] for i in range(len(queries)) if counts[i] != expected[i]][:20]}
    peer.report("import", results, notes)


main()
