"""Load on the query server: latency of one client (count, trace of about 500 tokens), throughput of 64 connections, memory growth.

  benches/peers/run serve --index DIR [--binary target/release/priorart] [--seconds 30] [--soak 600]

The load comes from wrk (Debian: apt-get install wrk). Queries are phrases of the index's own documents, so that they occur.
Prints one JSON object; the binary is the release build unless told otherwise.
"""
import argparse
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

WRK = """
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local n = 0
local bad = 0
request = function()
  n = n + 1
  return wrk.format("POST", "/v1/%s/count", {["Content-Type"] = "application/json"}, bodies[n %% #bodies + 1])
end
done = function(summary, latency, requests)
  io.write(string.format("RESULT %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout))
end
"""


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
        assert answer.status == 200, data
        return json.loads(data), (time.perf_counter() - start) * 1e3

    def resident(self):
        text = self.get("/metrics").decode()
        return int(float(re.search(r"^process_resident_memory_bytes (\S+)", text, re.M)[1]))


def latencies(run, seconds):
    out = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        out.append(run())
    out.sort()
    return {"requests": len(out), "p50_ms": round(statistics.median(out), 3), "p99_ms": round(out[int(len(out) * 0.99) - 1], 3)}


def load(address, index, bodies, seconds):
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(WRK % (bodies, index))
        script.flush()
        run = ["wrk", "-t", "1", "-c", "64", "-d", f"{seconds}s", "-s", script.name, f"http://{address}"]
        out = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout
    requests, micros, p50, p99, errors = map(int, re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", out).groups())
    return {"connections": 64, "requests_per_second": round(requests / (micros / 1e6)), "p50_ms": p50 / 1e3, "p99_ms": p99 / 1e3, "errors": errors}


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--index", required=True)
    a.add_argument("--binary", default=str(ROOT / "target/release/priorart"))
    a.add_argument("--seconds", type=int, default=30)
    a.add_argument("--soak", type=int, default=0, help="seconds of load between two looks at the memory")
    a = a.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed: apt-get install wrk")
    rng = random.Random(42)
    serve = [a.binary, "serve", f"bench={a.index}", "--port", "0", "--probes", "0"]
    server = subprocess.Popen(serve, stderr=subprocess.PIPE, text=True)
    try:
        address = None
        while address is None:
            line = server.stderr.readline()
            if not line:
                sys.exit("the server did not start")
            found = re.search(r"on http://(\S+)", line)
            address = found and found[1]
        client = Client(address)
        about = json.loads(client.get("/v1/bench"))
        texts = []
        shards = [(i, s["documents"]) for i, s in enumerate(about["shards"])]
        while len(texts) < 200:
            shard, documents = rng.choices(shards, [n for _, n in shards])[0]
            d = json.loads(client.get(f"/v1/bench/document?shard={shard}&document={rng.randrange(documents)}&context=20000"))
            words = d["text"].split()
            if len(words) > 40:
                texts.append(words)
        phrases = []
        for words in texts:
            n = rng.randint(1, 6)
            at = rng.randrange(len(words) - n)
            phrases.append(" ".join(words[at:at + n]))
        # About 500 tokens of a byte-pair vocabulary, sewn from stretches of 20 words of different documents: what a trace has to take apart.
        mixed = []
        for _ in range(50):
            parts = []
            for _ in range(15):
                words = rng.choice(texts)
                at = rng.randrange(max(1, len(words) - 20))
                parts += words[at:at + 20]
            mixed.append(" ".join(parts))
        tokens = statistics.median(client.post("/v1/bench/trace", {"text": t, "documents_per_span": 0})[0]["tokens"] for t in mixed)
        trace = lambda body: client.post("/v1/bench/trace", {"text": rng.choice(mixed), **body})[1]  # noqa: E731
        result = {
            "index": {k: about[k] for k in ("documents", "tokens", "text_bytes")},
            "binary": os.path.relpath(a.binary, ROOT),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "count": latencies(lambda: client.post("/v1/bench/count", {"query": rng.choice(phrases)})[1], a.seconds),
            "trace_tokens": tokens,
            "trace_spans_only": latencies(lambda: trace({"documents_per_span": 0, "min_tokens": 5}), a.seconds),
            "trace_with_documents": latencies(lambda: trace({"documents_per_span": 3, "min_tokens": 5}), a.seconds),
        }
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as bodies:
            bodies.writelines(json.dumps({"query": p}) + "\n" for p in phrases)
            bodies.flush()
            result["count_load"] = load(address, "bench", bodies.name, a.seconds)
            before = client.resident()
            load(address, "bench", bodies.name, max(a.soak, 5))
            after = Client(address).resident()
        result["memory"] = {"before": before, "after": after, "grown": after - before, "seconds": max(a.soak, 5)}
        print(json.dumps(result, indent=1))
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
