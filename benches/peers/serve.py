"""Load on the query server, and the same requests on infini-gram's package behind a small HTTP server, in one run.

    benches/peers/run serve [CORPUS] [--seconds 15]
    benches/peers/run serve [CORPUS] --soak 600

CORPUS (default: $PRIORART_DATA/corpora) is indexed with gpt2 tokens; its token stream is handed to the package's own sorter. wrk (Debian: apt-get
install wrk) keeps 64 connections busy on loopback with mixed requests in infini-gram's own form, the same bodies for both: counts, boolean counts,
probabilities, next tokens and finds. Then our own interface: counts, and traces of about 500 tokens with the request that the page sends. `--soak`
only loads our server with batches of counts, finds and traces for so many seconds, looks at its memory on the way, and writes results/serve-soak.json.

The peer's server is Python's threading one: what it costs is part of what it answers in, as it is of ours; `engine alone` is the package without it.
"""
import argparse
import http.client
import http.server
import json
import os
import pathlib
import random
import re
import shutil
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import peer

peer.enter("serve", ["infini-gram==2.6.0", "numpy"])

import numpy as np  # noqa: E402
from infini_gram.engine import InfiniGramEngine  # noqa: E402
from peer import infinigram  # noqa: E402

WORK = peer.SCRATCH / "serve-work"
EOS = 50256
# What the page asks when a text is traced.
PAGE = {"min_tokens": 6, "documents_per_span": 5, "document_spans": 25, "context": 120}

WRK = """
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local n = 0
request = function()
  n = n + 1
  return wrk.format("POST", "%s", {["Content-Type"] = "application/json"}, bodies[n %% #bodies + 1])
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def load(address, path, bodies, seconds):
    """wrk's figures: requests a second, milliseconds, errors (any status but 2xx among them)."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as lines, tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        lines.writelines(json.dumps(b) + "\n" for b in bodies)
        lines.flush()
        script.write(WRK % (lines.name, path))
        script.flush()
        command = ["wrk", "-t", "1", "-c", "64", "-d", f"{seconds}s", "--timeout", "30s", "-s", script.name, f"http://{address}"]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    requests, micros, p50, p99, errors = map(int, re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", out).groups())
    return {"requests_per_second": requests / (micros / 1e6), "p50_ms": p50 / 1e3, "p99_ms": p99 / 1e3, "errors": errors}


class Client:
    def __init__(self, address):
        self.c = http.client.HTTPConnection(address)

    def get(self, path):
        self.c.request("GET", path)
        return self.c.getresponse().read()

    def post(self, path, body):
        start = time.perf_counter()
        self.c.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self.c.getresponse()
        data = answer.read()
        taken = (time.perf_counter() - start) * 1e3
        assert answer.status == 200, data
        return json.loads(data), taken


def latencies(run, seconds):
    out = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        out.append(run())
    out.sort()
    return {"requests": len(out), "p50_ms": statistics.median(out), "p99_ms": out[int(len(out) * 0.99) - 1]}


def answer(engine, r):
    kind, ids = r["query_type"], r["query_ids"]
    if kind == "count":
        return engine.count_cnf(ids) if ids and isinstance(ids[0], list) else engine.count(ids)
    if kind in ("prob", "infgram_prob"):
        return getattr(engine, kind)(ids[:-1], ids[-1])
    if kind == "ntd":
        return engine.ntd(ids, max_support=1000)
    return engine.find(ids)


class PeerServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """The load ends while answers are on their way."""


def peer_server(engine):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            data = json.dumps(answer(engine, body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = PeerServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def stream_of(index):
    """The tokens of an index of one shard (FORMAT.md: a header of 64 bytes, its payload's length at byte 32) and its separator."""
    shards = [p for p in (index / "shards").iterdir() if (p / "tokens.bin").exists()]
    assert len(shards) == 1, "the peer gets one shard"
    raw = (shards[0] / "tokens.bin").read_bytes()
    payload = int.from_bytes(raw[32:40], "little")
    stream = np.frombuffer(raw, dtype=np.uint16, offset=64, count=payload // 2)
    return stream, int(stream[-1])


def mixed(stream, separator, rng):
    """Requests in infini-gram's form: n-grams that occur, and pairs of them in one document."""
    def ngram(n):
        while True:
            at = rng.randrange(len(stream) - n)
            q = stream[at:at + n].tolist()
            if separator not in q:
                return q

    def pair():
        piece = ngram(60)
        return [[piece[3:5]], [piece[40:42]]]

    def one():
        kind = rng.choices(["count", "cnf", "prob", "infgram_prob", "ntd", "find"], [50, 5, 15, 10, 10, 10])[0]
        ids = {"count": lambda: ngram(rng.randint(1, 8)), "cnf": pair, "prob": lambda: ngram(rng.randint(2, 6)),
               "infgram_prob": lambda: ngram(5) + ngram(4), "ntd": lambda: ngram(rng.randint(2, 4)), "find": lambda: ngram(rng.randint(2, 6))}[kind]()
        return {"index": "bench", "query_type": "count" if kind == "cnf" else kind, "query_ids": ids}

    return [one() for _ in range(4000)]


def texts(client, about, rng):
    """Phrases of the index's documents; and texts of about 500 tokens sewn from stretches of 20 words of different documents."""
    words = []
    [shard] = about["shards"]
    while len(words) < 200:
        d = json.loads(client.get(f"/v1/bench/document?shard=0&document={rng.randrange(shard['documents'])}&context=20000"))
        if len(found := d["text"].split()) > 60:
            words.append(found)
    stretch = lambda n: (lambda w, at: w[at:at + n])(w := rng.choice(words), rng.randrange(len(w) - n))  # noqa: E731
    phrases = [" ".join(stretch(rng.randint(1, 6))) for _ in range(2000)]
    sewn = [" ".join(sum((stretch(20) for _ in range(16)), [])) for _ in range(100)]
    return phrases, sewn


def resident(pid):
    """Memory that is the process's own, in KiB; mapped index pages are the system's to take back."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^RssAnon:\s+(\d+)", status, re.M)[1])


def absolute(rows, metric, unit, value, goal, higher=False):
    met = value >= goal if higher else value <= goal
    rows.append({"metric": metric, "unit": unit, "ours": round(value, 3), "peer": goal, "peer_name": "goal",
                 "ratio": round(value / goal if higher else goal / max(value, 1e-9), 3), "goal": 1.0, "met": met})


def scanned(stream, separator, clauses):
    """Occurrences of the rarer of two bigrams that have the other within 100 tokens in the same document, one after another."""
    places = [np.flatnonzero((stream[:-1] == a) & (stream[1:] == b)) for [[a, b]] in clauses]
    few, many = sorted(places, key=len)
    ends = np.flatnonzero(stream == separator)
    document = lambda p: np.searchsorted(ends, p)  # noqa: E731
    return sum(any(document(p) == document(q) for q in many[(many >= p - 100) & (many <= p + 100)]) for p in few)


def compare(address, stream, separator, theirs, about, seconds, rng):
    """Both servers under the same load, then our own interface; writes the results."""
    rows = []
    client = Client(address)
    bodies = mixed(stream, separator, rng)
    engine = InfiniGramEngine(index_dir=str(theirs), eos_token_id=EOS, vocab_size=65535, token_dtype="u16", ds_prefetch_depth=0,
                              sa_prefetch_depth=0, od_prefetch_depth=0)
    # Answers first: the same number for the same body, where neither says that it samples. Where they differ, a scan decides.
    agree = {"same": 0, "different, a scan agrees with us": 0, "different": 0}
    for body in bodies[:500]:
        got, want = client.post("/", body)[0], answer(engine, body)
        for key in ("count", "cnt", "cont_cnt"):
            if key in want and not want.get("approx"):
                boolean = isinstance(body["query_ids"][0], list)
                ours = got[key] != want[key] and boolean and scanned(stream, separator, body["query_ids"]) == got[key]
                agree["same" if got[key] == want[key] else "different, a scan agrees with us" if ours else "different"] += 1
    httpd = peer_server(engine)
    peer_address = f"127.0.0.1:{httpd.server_address[1]}"
    for where in (address, peer_address):
        load(where, "/", bodies, 2)
    mine, other = load(address, "/", bodies, seconds), load(peer_address, "/", bodies, seconds)
    httpd.shutdown()
    begin = time.perf_counter()
    for body in bodies[:1000]:
        answer(engine, body)
    alone = 1000 / (time.perf_counter() - begin)
    name = "infini-gram 2.6.0 behind Python's threading HTTP server"
    rows.append(peer.result("mixed, 64 connections", "requests/s", mine["requests_per_second"], other["requests_per_second"], name, 1))
    rows.append(peer.result("mixed, 64 connections, p50", "ms", mine["p50_ms"], other["p50_ms"], name, 1, False))
    rows.append(peer.result("mixed, 64 connections, p99", "ms", mine["p99_ms"], other["p99_ms"], name, 1, False))
    rows.append(peer.result("mixed, 64 connections", "requests/s", mine["requests_per_second"], alone, "the package's engine alone, one thread", 1))
    absolute(rows, "errors", "requests", mine["errors"], 0)

    # The server closed the idle connection meanwhile.
    client = Client(address)
    phrases, sewn = texts(client, about, rng)
    for text in sewn[:10]:
        client.post("/v1/bench/trace", {"text": text, **PAGE})
    sizes = [client.post("/v1/bench/trace", {"text": t, "documents_per_span": 0})[0]["tokens"] for t in sewn]
    count = latencies(lambda: client.post("/v1/bench/count", {"query": rng.choice(phrases)})[1], seconds / 3)
    trace = latencies(lambda: client.post("/v1/bench/trace", {"text": rng.choice(sewn), **PAGE})[1], seconds)
    every = latencies(lambda: client.post("/v1/bench/trace", {"text": rng.choice(sewn), **PAGE, "min_tokens": 1, "document_spans": None})[1], seconds / 3)
    counted = load(address, "/v1/bench/count", [{"query": p} for p in phrases], seconds)
    absolute(rows, "count, one client, p50", "ms", count["p50_ms"], 1.0)
    absolute(rows, f"trace of {statistics.median(sizes):.0f} tokens, p50", "ms", trace["p50_ms"], 20.0)
    absolute(rows, "counts of texts, 64 connections", "requests/s", counted["requests_per_second"], 5000, True)
    absolute(rows, "errors in counts", "requests", counted["errors"], 0)
    notes = {"documents": about["documents"], "tokens": about["tokens"], "text_mb": round(about["text_bytes"] / 1e6, 1), "answers": agree,
             "load_average": os.getloadavg()[0], "mixed": {"ours": mine, "peer": other}, "count": count, "counts": counted, "trace": trace,
             "trace_with_documents_of_every_span": every}
    peer.report("serve", rows, notes)


def soak(pid, address, phrases, sewn, seconds, rng):
    """Batches of counts, finds and traces; memory before, on the way and after."""
    one = lambda: [{"count": {"query": rng.choice(phrases)}}, {"find": {"query": rng.choice(phrases), "limit": 3}},  # noqa: E731
                   {"trace": {"text": rng.choice(sewn), **PAGE}}]
    bodies = [{"requests": one()} for _ in range(200)]
    looks, errors, requests = [resident(pid)], 0, 0
    step = max(5, seconds // 20)
    for _ in range(seconds // step):
        got = load(address, "/v1/bench/batch", bodies, step)
        errors += got["errors"]
        requests += 3 * got["requests_per_second"] * step
        looks.append(resident(pid))
    settled = looks[len(looks) // 5]
    rows = []
    absolute(rows, f"memory grown in the last {seconds * 4 // 5} s of load", "MiB", max(0, looks[-1] - settled) / 1024, 16)
    absolute(rows, "errors", "requests", errors, 0)
    peer.report("serve-soak", rows, {"seconds": seconds, "queries": round(requests), "resident_kib": looks})


def main():
    a = argparse.ArgumentParser()
    data = os.environ.get("PRIORART_DATA")
    a.add_argument("corpus", nargs="?", default=data and f"{data}/corpora")
    a.add_argument("--seconds", type=int, default=15)
    a.add_argument("--soak", type=int, default=0)
    a = a.parse_args()
    if not a.corpus:
        sys.exit("name a corpus, or set PRIORART_DATA")
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed: apt-get install wrk")
    ours = peer.program("priorart")
    WORK.mkdir(parents=True, exist_ok=True)
    index = WORK / "index"
    if not (index / "manifest.json").exists():
        subprocess.run([ours, "build", "--index", index, "--tokenizer", "gpt2", "--encoder", "none", a.corpus], check=True)
    stream, separator = stream_of(index)
    theirs = WORK / "infini-gram"
    if not (theirs / "table.0").exists():
        infinigram.write(stream, separator, theirs)
        infinigram.sort(theirs)
    rng = random.Random(42)
    server = subprocess.Popen([ours, "serve", f"bench={index}", "--port", "0", "--probes", "0"], stderr=subprocess.PIPE, text=True)
    try:
        address = None
        while address is None:
            line = server.stderr.readline()
            if not line:
                sys.exit("the server did not start")
            found = re.search(r"on http://(\S+)", line)
            address = found and found[1]
        threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
        client = Client(address)
        about = json.loads(client.get("/v1/bench"))
        if a.soak:
            soak(server.pid, address, *texts(client, about, rng), a.soak, rng)
        else:
            compare(address, stream, separator, theirs, about, a.seconds, rng)
    finally:
        server.terminate()
        server.wait(30)


main()
