"""How a count grows from 10 M tokens to a billion in one shard, warm and cold.

    benches/peers/run growth [STAGE] [SIZE...]

STAGE is `make` (builds the shards), `ask` (latencies; wants an idle machine), `open` (opening a shard whose top level is in the page cache), `cold`
(pages read by a count whose files are out of the page cache), `report` (results/growth.json and docs/growth.svg), or left out: all of them. SIZE: tokens, in millions.

The text is the token stream that `run exact` exported (run it first), repeated with seeded edits (benches/growth.rs). For `cold`, the
files are evicted before each count and the page cache is asked afterwards which of their pages are in it; each count is a process of its own.
"""
import ctypes
import json
import math
import mmap
import os
import pathlib
import random
import subprocess
import sys

import peer

WORK = peer.SCRATCH / "growth-work"
TOKENS = pathlib.Path(os.environ.get("PRIORART_TOKENS", peer.SCRATCH / "exact-work" / "tokens.u16"))
SEPARATOR = 50257
FILES = ("tokens.bin", "suffix.bin", "top.bin", "runs.bin")
COUNTS = 100


def home(size):
    return WORK / f"{size}m"


def keep(name, value):
    (WORK / f"{name}.json").write_text(json.dumps(value, indent=1))


def kept(name):
    path = WORK / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def ours(*arguments):
    out = subprocess.run([PROGRAM, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out)


def make(size):
    if not kept(f"make-{size}"):
        keep(f"make-{size}", ours("make", TOKENS, SEPARATOR, home(size), size * 1_000_000))


def evict(size):
    for name in FILES:
        with open(home(size) / name, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def pages(size):
    """Pages of each file that are in the page cache, as sets of numbers."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = {}
    for name in FILES:
        with open(home(size) / name, "rb") as file:
            # A private writable map, so that Python gives its address; nothing is written or read.
            with mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as area:
                hold = ctypes.c_char.from_buffer(area)
                vector = (ctypes.c_ubyte * -(-len(area) // mmap.PAGESIZE))()
                assert libc.mincore(ctypes.c_void_p(ctypes.addressof(hold)), ctypes.c_size_t(len(area)), vector) == 0
                found[name] = {i for i, v in enumerate(bytes(vector)) if v & 1}
                del hold
    return found


def cold(size):
    rng = random.Random(3)
    stream = home(size) / "tokens.bin"
    length = stream.stat().st_size // 2
    queries = []
    with open(stream, "rb") as file:
        while len(queries) < COUNTS:
            file.seek(64 + 2 * rng.randrange(length - 1000))
            raw = file.read(10)
            ids = [int.from_bytes(raw[i:i + 2], "little") for i in range(0, 10, 2)]
            if SEPARATOR not in ids and len(raw) == 10:
                queries.append(ids)
    os.sync()
    evict(size)
    # A query of the separator opens the files and reads nothing of them.
    ours("cold", home(size), SEPARATOR)
    opened = pages(size)
    reads, top = [], []
    for ids in queries:
        # A page may be held for a moment by whoever read it last.
        for _ in range(20):
            evict(size)
            if not any(pages(size).values()):
                break
        else:
            sys.exit("the page cache does not let go of the files")
        ours("cold", home(size), ",".join(map(str, ids)))
        after = pages(size)
        reads.append(sum(len(after[name] - opened[name]) for name in FILES[:2]))
        top.append(sum(len(after[name] - opened[name]) for name in FILES[2:]))
    reads.sort()
    keep(f"cold-{size}", {"mean": sum(reads) / len(reads), "p50": reads[len(reads) // 2], "p99": reads[len(reads) * 99 // 100],
                          "most": reads[-1], "of the top level, mean": sum(top) / len(top), "counts": len(reads)})


def plot(asked):
    """An SVG of count p50 (n = 5) over tokens, both axes from the data."""
    w, h, left, low = 560, 300, 52, 40
    most = max(a[how]["count 5"]["p50"] for a in asked for how in ("mapped", "resident")) * 1.15
    x = lambda t: left + (math.log10(t) - 6.9) / (9.1 - 6.9) * (w - left - 20)  # noqa: E731
    y = lambda ns: h - low - ns / most * (h - low - 30)  # noqa: E731
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" font-family="sans-serif" font-size="12">',
           f'<rect width="{w}" height="{h}" fill="white"/>',
           '<text x="12" y="18">count of 5 tokens, median, µs, over tokens in the shard</text>']
    step = 0.5 if most > 1000 else 0.25
    for i in range(int(most / 1000 / step) + 1):
        at = y(i * step * 1000)
        out.append(f'<path d="M{left} {at:.1f}H{w - 20}" stroke="#ddd"/><text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{i * step:g}</text>')
    for a in asked:
        at, t = x(a["tokens"]), a["tokens"] / 1e6
        out.append(f'<text x="{at:.1f}" y="{h - 18}" text-anchor="middle">{t:g} M</text>')
    for how, colour, dy in (("mapped", "#b5482a", -10), ("resident", "#1f6f8b", 20)):
        points = [(x(a["tokens"]), y(a[how]["count 5"]["p50"])) for a in asked]
        out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>')
        out += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
        out.append(f'<text x="{points[-1][0]:.1f}" y="{points[-1][1] + dy:.1f}" fill="{colour}" text-anchor="end">{how}</text>')
    (peer.ROOT / "docs" / "growth.svg").write_text("\n".join(out) + "\n</svg>\n")


def report(sizes):
    rows = []

    def row(metric, unit, value, goal):
        rows.append({"metric": metric, "unit": unit, "ours": round(value, 3), "peer": goal, "peer_name": "goal",
                     "ratio": round(goal / value, 3) if value else 1.0, "goal": 1.0, "met": value <= goal})

    asked = [a for a in (kept(f"ask-{s}") for s in sizes) if a]
    for how in ("mapped", "resident"):
        base = next((a for a in asked if 25e6 < a["tokens"] < 45e6), None)
        for a in asked:
            millions = f"{a['tokens'] / 1e6:g} M tokens, {how}"
            row(f"count n=5 p50, {millions}", "ns", a[how]["count 5"]["p50"], 1000)
            if base and a["tokens"] > 1.5 * base["tokens"]:
                row(f"count n=5 p50 over that at 30 M, {millions}", "ratio", a[how]["count 5"]["p50"] / base[how]["count 5"]["p50"], 2.5)
    for a, s in zip(asked, sizes):
        row(f"open the first time, {a['tokens'] / 1e6:g} M tokens", "ms", a["open_ms"], 50)
        if again := kept(f"open-{s}"):
            row(f"open again, {a['tokens'] / 1e6:g} M tokens, median of {len(again)}", "ms", sorted(again)[len(again) // 2], 50)
    for s in sizes:
        if pages_ := kept(f"cold-{s}"):
            for what in ("p50", "mean"):
                row(f"page reads of a cold count n=5, {s} M tokens, {what}", "pages", pages_[what], 3)
    runs = [{"make": kept(f"make-{s}"), "ask": kept(f"ask-{s}"), "cold": kept(f"cold-{s}")} for s in sizes]
    peer.report("growth", rows, {"runs": runs})
    if asked:
        plot(asked)


WORK.mkdir(parents=True, exist_ok=True)
stages = [a for a in sys.argv[1:] if not a.isdigit()] or ["make", "ask", "open", "cold", "report"]
chosen = [int(a) for a in sys.argv[1:] if a.isdigit()] or [10, 30, 100, 300, 1000]
PROGRAM = None if stages == ["report"] else peer.binary("growth")
for stage in stages:
    if stage == "report":
        report([s for s in (10, 30, 100, 300, 1000) if kept(f"make-{s}")])
        continue
    for size in chosen:
        if stage == "make":
            make(size)
        elif stage == "ask":
            keep(f"ask-{size}", ours("ask", home(size)))
        elif stage == "open":
            keep(f"open-{size}", [ours("ask", home(size), 10)["open_ms"] for _ in range(6)][1:])
        elif stage == "cold":
            cold(size)
        else:
            sys.exit(f"there is no stage {stage}")
