"""What the side-by-side scripts share: a scratch environment for the peers, our benchmark binaries, the results file."""
import importlib.util
import json
import os
import pathlib
import platform
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
SCRATCH = HERE / ".scratch"


def enter(name, packages):
    """Re-runs the calling script in a virtual environment that has `packages`, made on first use, unless this Python has them."""
    modules = [{"faiss-cpu": "faiss", "sentence-transformers": "sentence_transformers"}.get(p.split("=")[0], p.split("=")[0]) for p in packages]
    SCRATCH.mkdir(exist_ok=True)
    if all(importlib.util.find_spec(module) for module in modules):
        return
    if pathlib.Path(sys.prefix) == SCRATCH / name:
        return
    python = environment(name, packages)
    os.execv(python, [str(python), *sys.argv])


def environment(name, packages):
    """The Python of a virtual environment that has `packages`, made on first use."""
    home = SCRATCH / name
    python = home / "bin" / "python"
    SCRATCH.mkdir(exist_ok=True)
    if not (home / ".complete").exists():
        print(f"installing {' '.join(packages)} into {home}", file=sys.stderr)
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        (home / ".complete").touch()
    return python


def binary(bench):
    """Builds a benchmark and gives its executable. PRIORART_BENCH_PROFILE=dev measures the dev profile instead,
    PRIORART_BENCH_BIN an executable that is there already."""
    if os.environ.get("PRIORART_BENCH_BIN"):
        return os.environ["PRIORART_BENCH_BIN"]
    profile = os.environ.get("PRIORART_BENCH_PROFILE", "bench")
    out = subprocess.run(
        ["cargo", "bench", "-q", "--profile", profile, "--bench", bench, "--no-run", "--message-format=json"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return next(r["executable"] for r in rows if r.get("executable") and r["target"]["name"] == bench)


def program(name):
    """Builds one of our programs as it is shipped and gives its path; PRIORART_BIN_DIR names a directory that has it already."""
    if os.environ.get("PRIORART_BIN_DIR"):
        return pathlib.Path(os.environ["PRIORART_BIN_DIR"]) / name
    subprocess.run(["cargo", "build", "-q", "--release", "--workspace", "--bin", name], cwd=ROOT, check=True)
    return ROOT / "target" / "release" / name


def machine():
    model = platform.processor()
    try:
        model = next(l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system(), "architecture": platform.machine(),
            "profile": os.environ.get("PRIORART_BENCH_PROFILE", "bench")}


def result(metric, unit, ours, peer, peer_name, goal=1.0, higher_is_better=True):
    """One row: `ratio` above 1 means we are better; the goal is a ratio."""
    ratio = ours / peer if higher_is_better else peer / ours
    return {"metric": metric, "unit": unit, "ours": round(ours, 3), "peer": round(peer, 3), "peer_name": peer_name,
            "ratio": round(ratio, 3), "goal": goal, "met": ratio >= goal}


def report(name, results, notes=None):
    """Prints the table and writes results/NAME.json."""
    print(f"{'metric':<34}{'ours':>12}{'peer':>12}{'ratio':>8}  goal  peer")
    for r in results:
        print(f"{r['metric']:<34}{r['ours']:>12.2f}{r['peer']:>12.2f}{r['ratio']:>8.2f}  {r['goal']:<4}  {r['peer_name']}"
              f"{'' if r['met'] else '   MISSED'}")
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), **(notes or {}), "results": results}, indent=2) + "\n")
