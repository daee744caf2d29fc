#!/usr/bin/env python3
"""Vector indexes side by side: priorart against faiss-cpu, hnswlib and usearch, on the same vectors, in the same run.

usage: benches/peers/run vectors --vectors FILE.npy [--queries 1000] [--rows N] [--ivf] [--quick] [--reuse] [--bin PATH]

FILE.npy holds L2-normalised f32 embeddings; the last QUERIES rows are the queries, the rest is indexed (`index-tools
export-vectors` writes such a file). numpy, faiss-cpu, hnswlib and usearch are installed into a scratch environment unless
this Python has them. Without --bin, `cargo build --release --example vectors` is run first; --ivf adds `--features faiss`
(which compiles FAISS) and the IVF rows. --quick times each point once for half a second instead of three times for one,
and leaves out hnsw-f32, hnsw_rs and usearch's f32 and int8. --build-only builds and stops; --reuse takes over indexes
that an earlier run built from the same rows in the same --work directory.

Every index is built in one process and measured in another. Queries go in as one batch. A rate by one thread is queries
per CPU second (other load on the machine hardly matters); by two threads it is by wall time. Recall@10 counts a row as
right when it is as near as the true tenth, so that copies of a text do not count as misses. Rates at a recall are
interpolated on the curve (logarithm of the rate over the recall), and where a curve begins above the recall, its first
point counts.

Writes vectors.json to DIR (benches/peers/results), the tables to standard output and the curves to docs/vectors.svg, or to
DIR where it is given.
"""
import argparse, json, math, os, platform, subprocess, sys, time

EFS = [10, 16, 24, 40, 64, 100, 160, 300, 500, 800]
PROBES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
K = 10


def memory(field):
    for line in open("/proc/self/status"):
        if line.startswith(field + ":"):
            return int(line.split()[1])


def timing():
    """Passes and seconds of a pass, as PRIORART_BENCH_TIMING tells both sides."""
    passes, seconds = os.environ.get("PRIORART_BENCH_TIMING", "3,1.0").split(",")
    return int(passes), float(seconds)


def rate(count, run):
    run()
    by_cpu = by_wall = 0.0
    passes, seconds = timing()
    for _ in range(passes):
        cpu, wall, times = time.process_time(), time.perf_counter(), 0
        while time.perf_counter() - wall < seconds:
            run()
            times += 1
        by_cpu = max(by_cpu, count * times / max(time.process_time() - cpu, 0.01))
        by_wall = max(by_wall, count * times / (time.perf_counter() - wall))
    return by_cpu, by_wall


def index_path(name, work):
    """The file of an index; ours are named by the kind."""
    return f"{work}/{name.split(' ', 1)[1].replace(':', '-')}" if name.startswith("priorart ") else f"{work}/peer-{name.replace(',', '-')}"


def peer(name, action, work):
    """One peer in this process: `build` writes its file, `measure` prints its curve."""
    import numpy as np

    base = np.load(f"{work}/base.npy", mmap_mode="r")
    queries = np.load(f"{work}/queries.npy")
    path = index_path(name, work)
    cores = len(os.sched_getaffinity(0))
    family, _, kind = name.partition(":")
    settings = EFS
    if family == "hnswlib":
        import hnswlib

        index = hnswlib.Index(space="ip", dim=base.shape[1])

        def build():
            index.init_index(max_elements=len(base), ef_construction=200, M=16, random_seed=1)
            index.add_items(np.ascontiguousarray(base), num_threads=cores)

        save, load = lambda: index.save_index(path), lambda: index.load_index(path)
        set_to, threads = index.set_ef, lambda n: None
        search = lambda n: index.knn_query(queries, k=K, num_threads=n)[0]
    elif family == "usearch":
        from usearch.index import Index

        index = Index(ndim=base.shape[1], metric="ip", dtype=kind, connectivity=16, expansion_add=200)
        build = lambda: index.add(np.arange(len(base)), np.ascontiguousarray(base), threads=cores)
        save, load = lambda: index.save(path), lambda: index.view(path)

        def set_to(ef):
            index.expansion_search = ef

        threads = lambda n: None
        search = lambda n: index.search(queries, K, threads=n).keys
    else:
        import faiss

        holder = [faiss.index_factory(base.shape[1], kind, faiss.METRIC_INNER_PRODUCT)]
        graph = kind.startswith("HNSW")
        if not graph:
            settings = PROBES

        def build():
            faiss.omp_set_num_threads(cores)
            data = np.ascontiguousarray(base)
            if graph:
                holder[0].hnsw.efConstruction = 200
            else:
                holder[0].train(data[:: max(1, len(data) // 65536)][:65536])
            holder[0].add(data)

        save = lambda: faiss.write_index(holder[0], path)

        def load():
            holder[0] = faiss.read_index(path, 0 if graph or kind == "Flat" else faiss.IO_FLAG_MMAP)

        def set_to(value):
            if graph:
                holder[0].hnsw.efSearch = value
            elif kind != "Flat":
                faiss.extract_index_ivf(holder[0]).nprobe = value

        if kind == "Flat":
            settings = [0]
        threads = faiss.omp_set_num_threads
        search = lambda n: holder[0].search(queries, K)[1]
    if action == "build":
        wall, cpu = time.perf_counter(), time.process_time()
        build()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        save()
        return {"build_seconds": wall, "build_cpu_seconds": cpu, "build_peak_kib": memory("VmHWM")}
    truth = np.load(f"{work}/truth.npy")[:, 0]
    start = time.perf_counter()
    load()
    opened, rss = time.perf_counter() - start, memory("VmRSS")
    points = []
    for setting in settings:
        set_to(setting)
        threads(1)
        found = np.asarray(search(1)).astype(np.int64)
        scores = np.einsum("qd,qkd->qk", queries, base[found.clip(0)])
        recall = float(((scores >= truth[:, None] - 1e-5) & (found >= 0)).mean())
        one, _ = rate(len(queries), lambda: search(1))
        threads(2)
        two, wall = rate(len(queries), lambda: search(2))
        points.append({"setting": setting, "recall": recall, "qps": one, "qps_2": 2 * two, "qps_2_wall": wall})
    return {"points": points, "bytes": os.path.getsize(path), "rows": len(base), "open_seconds": opened,
            "open_rss_kib": rss, "warm_rss_kib": memory("VmRSS"), "dim": base.shape[1], "queries": len(queries)}


def at_recall(points, recall, key="qps"):
    """The rate on the upper hull of a curve at a recall; None where the curve does not reach it."""
    points = sorted(points, key=lambda p: p["recall"])
    best = None
    above = [p[key] for p in points if p["recall"] >= recall]
    if above:
        best = max(above)
    for a, b in zip(points, points[1:]):
        if a["recall"] < recall <= b["recall"]:
            share = (recall - a["recall"]) / (b["recall"] - a["recall"])
            best = max(best or 0, math.exp(math.log(a[key]) * (1 - share) + math.log(b[key]) * share))
    return best


def gemm_rate(threads):
    """Best single-precision GFLOP/s of numpy's BLAS per CPU second of one thread."""
    code = ("import numpy as np, time\na=np.random.rand(2048,2048).astype('f4');b=a.T.copy();a@b\nbest=0\n"
            "for _ in range(8):\n s=time.process_time();a@b;best=max(best,2*2048**3/(time.process_time()-s)/1e9)\nprint(best)")
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    env["OPENBLAS_NUM_THREADS"] = str(threads)
    return float(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout)


def svg(curves, path):
    width, height, left, bottom = 860, 520, 70, 50
    colours = ["#0b6e4f", "#2ca58d", "#84bc9c", "#c1292e", "#f1a208", "#5b5f97", "#235789", "#9c6615", "#777777", "#b56576"]
    points = [p for c in curves.values() for p in c if p["recall"] >= 0.7]
    low, high = math.log10(min(p["qps"] for p in points)), math.log10(max(p["qps"] for p in points))
    x = lambda r: left + (r - 0.7) / 0.3 * (width - left - 210)
    y = lambda q: height - bottom - (math.log10(q) - low) / (high - low or 1) * (height - bottom - 30)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    for r in (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0):
        out.append(f'<line x1="{x(r):.1f}" y1="30" x2="{x(r):.1f}" y2="{height - bottom}" stroke="#ddd"/>'
                   f'<text x="{x(r):.1f}" y="{height - bottom + 18}" text-anchor="middle">{r}</text>')
    for e in range(math.floor(low), math.ceil(high) + 1):
        for m in (1, 2, 5):
            q = m * 10**e
            if low <= math.log10(q) <= high:
                out.append(f'<line x1="{left}" y1="{y(q):.1f}" x2="{x(1):.1f}" y2="{y(q):.1f}" stroke="#ddd"/>'
                           f'<text x="{left - 6}" y="{y(q) + 4:.1f}" text-anchor="end">{q:g}</text>')
    out.append(f'<text x="{(left + x(1)) / 2}" y="{height - 12}" text-anchor="middle">recall@10</text>'
               f'<text x="16" y="20">queries per CPU second, one thread</text>')
    for i, (name, curve) in enumerate(curves.items()):
        colour = colours[i % len(colours)]
        dash = "" if name.startswith("priorart") else ' stroke-dasharray="5 3"'
        line = " ".join(f'{x(p["recall"]):.1f},{y(p["qps"]):.1f}' for p in curve if p["recall"] >= 0.7)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        out.append(f'<text x="{x(1) + 14:.1f}" y="{40 + 18 * i}" fill="{colour}">{name}</text>')
    open(path, "w").write("\n".join(out + ["</svg>\n"]))


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", required=False)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=0, help="rows to index (0: all)")
    parser.add_argument("--bin")
    parser.add_argument("--out")
    parser.add_argument("--work", default=os.path.join(here, ".scratch", "vectors-work"))
    parser.add_argument("--ivf", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--reuse", action="store_true")
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--only", default="", help="comma-separated parts of names to run")
    parser.add_argument("--peer", nargs=2, metavar=("NAME", "ACTION"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        print(json.dumps(peer(*args.peer, args.work)))
        return
    if not args.vectors:
        parser.error("--vectors FILE.npy is needed")
    import peer as environment

    environment.enter("vectors", ["numpy", "faiss-cpu", "hnswlib", "usearch"])
    import numpy as np

    os.makedirs(args.work, exist_ok=True)
    drawn = args.out or os.path.join(here, "..", "..", "docs")
    args.out = args.out or os.path.join(here, "results")
    os.makedirs(args.out, exist_ok=True)
    if not args.bin:
        features = ["--features", "faiss"] if args.ivf else []
        subprocess.run(["cargo", "build", "--release", *features, "--example", "vectors"], check=True,
                       cwd=os.path.join(here, "..", ".."))
        args.bin = os.path.join(here, "..", "..", "target", "release", "examples", "vectors")
    vectors = np.load(args.vectors, mmap_mode="r")
    queries = np.ascontiguousarray(vectors[-args.queries:], dtype=np.float32)
    base = np.ascontiguousarray(vectors[: -args.queries][: args.rows or None], dtype=np.float32)
    same = f"{len(base)} {base[:: max(1, len(base) // 997)].sum():.4f}"
    stamp = f"{args.work}/rows"
    if not os.path.exists(stamp) or open(stamp).read() != same:
        for name in os.listdir(args.work):
            os.remove(os.path.join(args.work, name))
        open(stamp, "w").write(same)
    np.save(f"{args.work}/base.npy", base)
    np.save(f"{args.work}/queries.npy", queries)
    truth = np.empty((len(queries), 1), np.float32)
    for i in range(0, len(queries), 100):
        truth[i : i + 100, 0] = -np.partition(-(queries[i : i + 100] @ base.T), K - 1, axis=1)[:, K - 1]
    np.save(f"{args.work}/truth.npy", truth)
    lists = 2 ** round(math.log2(4 * math.sqrt(len(base))))
    names = ["priorart flat-f32", "priorart flat-f16", "priorart flat-int8", "priorart hnsw-int8", "priorart hnsw-f16",
             "priorart hnsw-f32", "priorart hnsw_rs", f"priorart ivf:IVF{lists},Flat", f"priorart ivf:IVF{lists},SQ8",
             "faiss:Flat", "hnswlib", "usearch:f32", "usearch:f16", "usearch:i8", "faiss:HNSW16,Flat",
             f"faiss:IVF{lists},Flat", f"faiss:IVF{lists},SQ8"]
    if not args.ivf:
        names = [n for n in names if "IVF" not in n]
    if args.quick and not args.only:
        slow = ("hnsw-f32", "hnsw_rs", "usearch:f32", "usearch:i8")
        names = [n for n in names if not n.endswith(slow)]
    if args.only:
        names = [n for n in names if any(part in n for part in args.only.split(","))]
    raw = {}
    env = dict(os.environ, OMP_WAIT_POLICY="passive", OPENBLAS_NUM_THREADS="1")
    env = {k: v for k, v in env.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    if args.quick:
        env.setdefault("PRIORART_BENCH_TIMING", "1,0.5")
    began = time.perf_counter()
    for name in names:
        result = {}
        kept = index_path(name, args.work) + ".build.json"
        for action in ("build",) if args.build_only else ("build", "measure"):
            if action == "build" and args.reuse and os.path.exists(kept):
                result.update(json.load(open(kept)))
                continue
            if name.startswith("priorart "):
                kind = name.split(" ", 1)[1]
                settings = [] if action == "build" else PROBES if "ivf" in kind else [1] if "flat" in kind else EFS
                command = [args.bin, kind, *(f"{args.work}/{f}.npy" for f in ("base", "queries", "truth")), args.work,
                           *map(str, settings)]
            else:
                command = [sys.executable, __file__, "--work", args.work, "--peer", name, action]
            done = subprocess.run(command, capture_output=True, text=True, env=env)
            if done.returncode:
                print(f"{name} {action}: {done.stderr.strip()[-400:]}", file=sys.stderr)
                break
            result.update(json.loads(done.stdout.strip().splitlines()[-1]))
            if action == "build":
                json.dump(result, open(kept, "w"))
        else:
            if args.build_only:
                print(f"{name}: build {result['build_seconds']:.1f} s", file=sys.stderr)
                continue
            raw[name] = result
            print(f"{name}: build {result['build_seconds']:.1f} s, {result['bytes'] / result['rows']:.0f} bytes a vector, "
                  + " ".join(f"{p['recall']:.4f}@{p['qps']:.0f}" for p in result["points"]), file=sys.stderr)
    print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)
    if args.build_only:
        return
    results = []

    def add(metric, unit, ours, peer_value, peer_name, goal, met):
        ratio = ours / peer_value if ours and peer_value else None
        results.append({"metric": metric, "unit": unit, "ours": ours, "peer": peer_value, "peer_name": peer_name,
                        "ratio": ratio, "goal": goal, "met": met(ratio) if ratio is not None else False})

    limit = gemm_rate(1)
    for name in ("priorart flat-f32", "priorart flat-f16", "priorart flat-int8"):
        if name in raw:
            r = raw[name]
            rate_ = r["points"][0]["qps"] * 2 * r["rows"] * r["dim"] / 1e9
            add(f"{name} batched search", "GFLOP/s", rate_, limit, "numpy sgemm 2048", ">= 0.6", lambda x: x >= 0.6)
    if "priorart flat-f32" in raw and "faiss:Flat" in raw:
        add("flat-f32 batched search", "queries/CPU-s", raw["priorart flat-f32"]["points"][0]["qps"],
            raw["faiss:Flat"]["points"][0]["qps"], "faiss-cpu IndexFlatIP", ">= 0.8", lambda x: x >= 0.8)
    for recall in (0.95, 0.99):
        for key, threads in (("qps", "1 thread"), ("qps_2_wall", "2 threads")):
            rates = {n: at_recall(r["points"], recall, key) for n, r in raw.items()}
            for ours in (n for n in names if n.startswith("priorart hnsw")):
                for other in ("hnswlib", "usearch:f16", "faiss:HNSW16,Flat"):
                    if ours in raw and other in raw:
                        add(f"{ours} at recall@10 {recall}, {threads}", "queries/s", rates[ours], rates[other], other, ">= 0.8",
                            lambda x: x >= 0.8)
            for suffix in ("Flat", "SQ8"):
                ours, other = f"priorart ivf:IVF{lists},{suffix}", f"faiss:IVF{lists},{suffix}"
                if ours in raw and other in raw:
                    add(f"{ours} at recall@10 {recall}, {threads}", "queries/s", rates[ours], rates[other], "faiss-cpu", ">= 0.8",
                        lambda x: x >= 0.8)
    if "priorart hnsw-int8" in raw and "hnswlib" in raw:
        for key, unit in (("build_cpu_seconds", "CPU s"), ("bytes", "bytes")):
            add(f"hnsw {key}", unit, raw["priorart hnsw-int8"][key], raw["hnswlib"][key], "hnswlib", "<= 1.2",
                lambda x: x <= 1.2)
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    machine = {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "rows": len(base), "dim": int(base.shape[1]),
               "queries": len(queries), "load": os.getloadavg()[0], "timing": env.get("PRIORART_BENCH_TIMING", "3,1.0")}
    json.dump({"machine": machine, "results": results, "raw": raw}, open(f"{args.out}/vectors.json", "w"), indent=1)
    lines = [f"{len(base):,} vectors of {base.shape[1]} dimensions, {len(queries)} queries; {cpu}, {machine['cores']} cores",
             "", "| index | build CPU s | bytes/vector | open ms | RSS open / warm MiB | QPS@0.95 | QPS@0.99 | best recall |",
             "|---|---|---|---|---|---|---|---|"]
    show = lambda v: f"{v:,.0f}" if v else "-"
    for name, r in raw.items():
        lines.append(f"| {name} | {r['build_cpu_seconds']:.1f} | {r['bytes'] / r['rows']:.0f} | {1000 * r['open_seconds']:.1f} | "
                     f"{r['open_rss_kib'] / 1024:.0f} / {r['warm_rss_kib'] / 1024:.0f} | {show(at_recall(r['points'], .95))} | "
                     f"{show(at_recall(r['points'], .99))} | {max(p['recall'] for p in r['points']):.4f} |")
    lines += ["", "| metric | ours | peer | ratio | goal | met |", "|---|---|---|---|---|---|"]
    for r in results:
        ratio = f"{r['ratio']:.2f}" if r["ratio"] else "-"
        lines.append(f"| {r['metric']} | {show(r['ours'])} | {show(r['peer'])} ({r['peer_name']}) | {ratio} | {r['goal']} | "
                     f"{'yes' if r['met'] else 'NO'} |")
    text = "\n".join(lines) + "\n"
    print(text)
    curves = {n: r["points"] for n, r in raw.items() if len(r["points"]) > 1}
    if curves:
        svg(curves, f"{drawn}/vectors.svg")


main()
