"""Exact queries against infini-gram and tokengrams: same tokens, same queries, one run, in process on both sides.

    benches/peers/run exact [CORPUS]

CORPUS (default: $PRIORART_DATA/corpora) is indexed with gpt2 tokens by `priorart build`; its token stream is then handed to
both peers. infini-gram is asked with prefetching off, its faster setting when warm, and with its defaults. Each
call is timed alone; `call floor` is the cost of a Python call that does nothing, which the peers' figures include and ours do not.
The calls of the peers are made in blocks that alternate, so that a noisy minute hits all.
"""
import array
import json
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import time

import peer

peer.enter("exact", ["infini-gram==2.6.0", "tokengrams==0.3.3", "numpy"])

import numpy as np  # noqa: E402
from infini_gram.engine import InfiniGramEngine  # noqa: E402
from tokengrams import MemmapIndex  # noqa: E402
from peer import infinigram  # noqa: E402

WORK = peer.SCRATCH / "exact-work"
SEED = 7


def children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def charged(command, **options):
    """CPU seconds of a command and its output."""
    before = children()
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout
    return children() - before, out


def build_infini_gram(stream, separator, out):
    """Its own sorter on its own layout: every document preceded by 0xffff. CPU and wall seconds of the sorter, KiB at its peak."""
    infinigram.write(stream, separator, out)
    start = time.perf_counter()
    cpu, peak = infinigram.sort(out)
    return {"cpu": cpu, "wall": time.perf_counter() - start, "peak_kib": peak}


def make_queries(stream, separator):
    """n-grams, prompts, phrase pairs and texts from seeded places of the stream, none across documents."""
    rng = random.Random(SEED)

    def ngram(n):
        while True:
            at = rng.randrange(len(stream) - n)
            q = stream[at:at + n]
            if separator not in q:
                return q.tolist()

    queries = {f"count {n}": [ngram(n) for _ in range(2000)] for n in (1, 2, 3, 5, 8, 13, 20)}
    queries["next 1"] = [ngram(1) for _ in range(200)]
    queries["next 3"] = [ngram(3) for _ in range(500)]
    # A prompt of 50 tokens made of two places, so that its longest suffix that occurs is found, not given; then a token to predict.
    queries["infgram 50"] = [ngram(30) + ngram(21) for _ in range(500)]
    # Two bigrams that stand in one document, within 100 tokens.
    pairs = []
    while len(pairs) < 300:
        piece = ngram(100)
        a, b = rng.randrange(0, 48), rng.randrange(50, 98)
        pairs.append([piece[a:a + 2], piece[b:b + 2]])
    queries["and 2"] = pairs
    # Texts of 500 tokens that mix places, as a model's output does: a match ends every few tokens.
    texts = []
    for _ in range(60):
        text = []
        while len(text) < 500:
            text += ngram(rng.randrange(4, 24))
        texts.append(text[:500])
    queries["trace 500"] = texts
    queries["batch 100k"] = [ngram(rng.choice((1, 2, 3, 5, 8, 13, 20))) for _ in range(100_000)]
    return queries


def timed(queries, call):
    out = []
    for q in queries:
        start = time.perf_counter_ns()
        call(q)
        out.append((time.perf_counter_ns() - start) / 1e3)
    out.sort()
    return {"p05": out[len(out) // 20], "p50": out[len(out) // 2], "p99": out[len(out) * 99 // 100]}


def main():
    data = os.environ.get("PRIORART_DATA")
    corpus = sys.argv[1] if len(sys.argv) > 1 else data and f"{data}/corpora"
    if not corpus:
        sys.exit("name a corpus, or set PRIORART_DATA")
    WORK.mkdir(parents=True, exist_ok=True)
    ours = peer.binary("exact")
    program = os.environ.get("PRIORART_BIN")
    if not program:
        profile = os.environ.get("PRIORART_BENCH_PROFILE", "bench")
        release = [] if profile == "dev" else ["--release"]
        subprocess.run(["cargo", "build", "-q", *release, "--bin", "priorart"], cwd=peer.ROOT, check=True)
        program = pathlib.Path(ours).parent.parent / "priorart"
    index = WORK / "index"
    shutil.rmtree(index, ignore_errors=True)
    end_to_end, _ = charged([program, "build", "--index", index, "--tokenizer", "gpt2", "--encoder", "none", corpus],
                            stderr=subprocess.DEVNULL)
    described = json.loads(subprocess.run([program, "info", "--index", index, "--format", "json"], check=True,
                                          stdout=subprocess.PIPE, text=True).stdout)
    exported = json.loads(charged([ours, "export", index, WORK / "tokens.u16"])[1])
    separator, tokens = exported["separator"], exported["tokens"]
    print(f"{tokens} tokens in {exported['documents']} documents", file=sys.stderr)
    stream = np.fromfile(WORK / "tokens.u16", dtype=np.uint16)

    theirs = WORK / "infini-gram"
    shutil.rmtree(theirs, ignore_errors=True)
    infini = build_infini_gram(stream, separator, theirs)
    table = WORK / "tokengrams.idx"
    table.unlink(missing_ok=True)
    start = time.perf_counter()
    code = "import sys, tokengrams; tokengrams.MemmapIndex.build(sys.argv[1], sys.argv[2], vocab=int(sys.argv[3]))"
    cpu, peak = infinigram.together([sys.executable, "-c", code, WORK / "tokens.u16", table, str(separator + 1)])
    tokengrams = {"cpu": cpu, "wall": time.perf_counter() - start, "peak_kib": peak}

    start = time.perf_counter()
    options = dict(index_dir=str(theirs), eos_token_id=separator, vocab_size=65535, token_dtype="u16")
    plain = InfiniGramEngine(**options, ds_prefetch_depth=0, sa_prefetch_depth=0, od_prefetch_depth=0)
    infini_open = (time.perf_counter() - start) * 1e3
    default = InfiniGramEngine(**options)
    start = time.perf_counter()
    grams = MemmapIndex(str(WORK / "tokens.u16"), str(table), vocab=separator + 1)
    tokengrams_open = (time.perf_counter() - start) * 1e3

    queries = make_queries(stream, separator)
    (WORK / "queries.json").write_text(json.dumps(queries))

    def calls(kind, engine):
        raw = engine.engine
        return {
            "count": lambda q: raw.count(q),
            "next": lambda q: raw.ntd(q, 1000),
            "infgram": lambda q: raw.infgram_prob(q[:-1], q[-1]),
            "and": lambda q: raw.count_cnf([[q[0]], [q[1]]], 50000, 100),
            "trace": lambda q: engine.attribute(q, delim_ids=[], min_len=1, max_cnt=1 << 40, enforce_bow=False),
        }.get(kind)

    results = {"ours": {}, "ours, resident": {}, "infini-gram, prefetch off": {}, "infini-gram, defaults": {}, "tokengrams": {}}
    # Answers first: a fast wrong answer is not a result.
    wrong = 0
    for n in (1, 2, 3, 5, 8, 13, 20):
        for q in queries[f"count {n}"][:200]:
            wrong += plain.count(q)["count"] != grams.count(q)
    for name, list_ in queries.items():
        kind = name.split()[0]
        for label, engine in (("infini-gram, prefetch off", plain), ("infini-gram, defaults", default)):
            if call := calls(kind, engine):
                some = list_[:60] if kind in ("trace", "and", "next") else list_
                timed(some, call)
                results[label][name] = timed(some, call)
        call = {"count": grams.count, "next": grams.count_next}.get(kind)
        if call:
            timed(list_, call)
            results["tokengrams"][name] = timed(list_, call)
        if kind == "batch":
            for label, one in (("infini-gram, prefetch off", plain.engine.count), ("tokengrams", grams.count)):
                begin = time.perf_counter()
                for q in list_:
                    one(q)
                results[label][name] = {"p50": (time.perf_counter() - begin) * 1e6 / len(list_)}
    sort = json.loads(charged([ours, "sort", WORK / "tokens.u16", str(separator)])[1])
    for label, resident in (("ours", 0), ("ours, resident", 1 << 40)):
        results[label] = json.loads(charged([ours, "query", index, WORK / "queries.json", str(resident)])[1])
    floor = timed(queries["count 5"], lambda q: None)["p50"]
    agree = sum(grams.count(q) for q in queries["count 5"])
    assert 2 * agree == results["ours"]["count 5"]["sum"], (agree, results["ours"]["count 5"]["sum"])

    off = results["infini-gram, prefetch off"]
    rows = []

    def row(metric, unit, ours_, peer_, name, goal, higher=False):
        rows.append(peer.result(metric, unit, ours_, peer_, name, goal, higher))

    def absolute(metric, unit, value, goal, higher=False):
        met = value >= goal if higher else value <= goal
        rows.append({"metric": metric, "unit": unit, "ours": round(value, 3), "peer": goal, "peer_name": "goal",
                     "ratio": round(value / goal if higher else goal / value, 3), "goal": 1.0, "met": met})

    default_, rust = results["infini-gram, defaults"], results["tokengrams"]
    peers = ((off, "infini-gram, prefetch off"), (default_, "infini-gram, defaults"), (rust, "tokengrams"))
    # Both ways of holding the index: mapped files, and a copy in memory in huge pages (--resident).
    for mine, held in ((results["ours"], "mapped"), (results["ours, resident"], "resident")):
        for n in (1, 2, 3, 5, 8, 13, 20):
            name, strict = f"count {n}", n >= 3
            for theirs_, who in peers:
                goal = {"infini-gram, prefetch off": 25, "tokengrams": 7}.get(who, 1) if strict else 1
                row(f"count n={n} p50, {held}", "µs", mine[name]["p50"], theirs_[name]["p50"], who, goal)
            if strict:
                absolute(f"count n={n} p50, {held}", "µs", mine[name]["p50"], 1.0)
        for how in ("list", "n-grams"):
            batch = mine[f"batch of a {how}" if how == "list" else f"batch of {how}"]
            for theirs_, who in (peers[0], peers[2]):
                row(f"batch of 100k counts, {how}, {held}", "µs/query", batch["wall"], theirs_["batch 100k"]["p50"], who, 1)
            absolute(f"batch, {how}, both cores, wall, {held}", "M queries/s", 1 / batch["wall"], 4.0, True)
            absolute(f"batch, {how}, both cores, by CPU time, {held}", "M queries/s", os.cpu_count() / batch["cpu"], 4.0, True)
        for n in (1, 3):
            for at in ("p05", "p50"):
                for theirs_, who in peers:
                    goal = 10 if who == "tokengrams" else 1
                    who += " (sampled)" if "infini" in who else ""
                    row(f"next n={n} {at}, {held}", "µs", mine[f"next {n}"][at], theirs_[f"next {n}"][at], who, goal)
            row(f"next n={n} p50 with texts, {held}", "µs", mine[f"next, texts {n}"]["p50"], rust[f"next {n}"]["p50"], "tokengrams, ids only", 1)
        for theirs_, who in peers[:2]:
            row(f"∞-gram probability, 50 tokens p50, {held}", "µs", mine["infgram 50"]["p50"], theirs_["infgram 50"]["p50"], who, 1)
            row(f"two-phrase AND p50, {held}", "µs", mine["and 2"]["p50"], theirs_["and 2"]["p50"], who, 10)
            row(f"trace of 500 tokens p50, {held}", "µs", mine["trace 500"]["p50"], theirs_["trace 500"]["p50"], who, 1)
        absolute(f"trace of 500 tokens p50, {held}", "µs", mine["trace 500"]["p50"], 250)
    mine = results["ours"]
    for what, unit, key, goal in (("CPU", "s", "cpu", 10), ("wall", "s", "wall", 1), ("peak memory", "KiB", "peak_kib", 1)):
        row(f"build, suffix part, {what}", unit, sort[key], infini[key], "infini-gram", goal)
        row(f"build, suffix part, {what}", unit, sort[key], tokengrams[key], "tokengrams", 1)
    text = described["text_bytes"] / 1e6
    absolute("build end to end, gpt2", "MB of text/CPU s", text / end_to_end, 25, True)
    shard = next(p for p in (index / "shards").iterdir())
    structure = sum((shard / f).stat().st_size for f in ("tokens.bin", "suffix.bin", "top.bin", "runs.bin"))
    size = lambda *paths: sum(p.stat().st_size for p in paths) / tokens  # noqa: E731
    absolute("size", "bytes/token", structure / tokens, 6.3)
    row("size", "bytes/token", structure / tokens, size(theirs / "tokenized.0", theirs / "table.0", theirs / "offset.0"), "infini-gram", 1)
    row("size", "bytes/token", structure / tokens, size(WORK / "tokens.u16", table), "tokengrams", 1)
    absolute("open, mapped", "ms", mine["open_ms"], 50)
    row("open", "ms", mine["open_ms"], infini_open, "infini-gram", 0)
    row("open", "ms", mine["open_ms"], tokengrams_open, "tokengrams", 1)
    notes = {"tokens": tokens, "documents": exported["documents"], "text_mb": round(text, 1), "call_floor_us": round(floor, 3),
             "sort_s": sort["of which sorting"], "counts_where_peers_disagree": wrong, "latencies_us": results}
    peer.report("exact", rows, notes)


main()
