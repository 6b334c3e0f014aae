#!/usr/bin/env python3
"""Measures `llmrun serve-bench` on this machine's GPU: the engine in process against its own HTTP server.

usage: bench_serving.py --out results/serving-CARD [--only NAME,...] [--time-limit S] [--program PATH] [-- FLAGS FOR LLMRUN]
       bench_serving.py --out DIR --smoke    the same steps with the demo model and small counts on the CPU, to try the script
       bench_serving.py --out DIR --note     only rewrite DIR/README.md
       bench_serving.py --list

Writes, for each workload, DIR/NAME.json (the report of --output-json) and DIR/NAME.txt (its text, its log and exit code);
beside them DIR/environment.json and DIR/README.md. A workload that fails leaves its text and the next one runs; those that
no time is left for are named in the README. Only the program and the source tree are needed.
"""
import argparse
import json
import pathlib
import shlex
import shutil
import subprocess
import sys
import time

from bench_machine import ROOT, environment, relative_program

SCRATCH = "build/bench-serving"  # relative, so that command lines in reports name no folder of this machine
COMMON = "--modes inproc,http --seed 2024 --metric-percentiles 90,95,99 --first-report"
LENGTHS = "--dataset-name lengths"
# (name, title, model, flags); for `lengths` mean lengths are those of ShareGPT's conversations.
WORKLOADS = [
    ("qwen2-7b-40rps", "Qwen2-7B, lengths as in ShareGPT, Poisson at 40 requests/s", "shape:qwen2-7b",
     f"{LENGTHS} --num-prompts 1600 --request-rate 40 --goodput ttft:500 tpot:50"),
    ("qwen2-7b-inf", "Qwen2-7B, lengths as in ShareGPT, all at once", "shape:qwen2-7b",
     f"{LENGTHS} --num-prompts 1000 --request-rate inf"),
]
SMOKE = [
    ("demo-rate", "demo model, 20 requests/s", "datasets/demo/model",
     "--input-len 16 --output-len 8 --num-prompts 20 --request-rate 20 --goodput ttft:500 tpot:50"),
    ("demo-inf", "demo model, all at once", "datasets/demo/model",
     "--input-len 16 --output-len 8 --num-prompts 20 --request-rate inf"),
]
FIGURES = [("achieved_rate", "arrivals/s, to the last"), ("request_throughput", "requests/s, to the last answer"),
            ("output_throughput", "output tokens/s"),
           ("median_ttft_ms", "TTFT median (ms)"), ("p99_ttft_ms", "TTFT P99 (ms)"), ("median_tpot_ms", "TPOT median (ms)"),
           ("p99_itl_ms", "ITL P99 (ms)"), ("p99_e2el_ms", "E2EL P99 (ms)")]


def run(program, workload, extra, folder, seconds):
    name, _, model, flags = workload
    report = folder / f"{name}.json"
    (ROOT / SCRATCH).mkdir(parents=True, exist_ok=True)
    written = ROOT / SCRATCH / f"{name}.json"
    for path in (report, written):
        path.unlink(missing_ok=True)
    words = [program, "serve-bench", "--model", model, *COMMON.split(), *flags.split(), *extra,
             "--output-json", f"{SCRATCH}/{name}.json", "--color", "never"]
    shown = shlex.join(words)
    print(f"== {name}: {shown}", flush=True)
    start = time.monotonic()
    try:
        done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=seconds, check=False)
        text, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as error:
        text, code = (error.stdout or b"").decode(errors="replace"), "ended by the time limit"
    took = time.monotonic() - start
    if written.is_file():
        shutil.move(written, report)
    (folder / f"{name}.txt").write_text(f"$ {shown}\n{text}\nexit code {code}, {took:.1f} s\n", encoding="utf-8")
    print(f"   exit code {code}, {took:.1f} s", flush=True)
    return code


def points_of(folder, name):
    try:
        return json.loads((folder / f"{name}.json").read_text(encoding="utf-8")).get("results", [])
    except (FileNotFoundError, json.JSONDecodeError):
        return []


def note(folder, workloads, codes):
    lines = ["# Serving Benchmark Result", "", "By `scripts/bench_serving.py`; `environment.json` says on what. Latency counts from the scheduled "
             "arrival. Weights are random, every output has the length asked for, the prefix cache is off; client, server and "
             "engine share one process.", ""]
    for name, title, _, _ in workloads:
        lines += [f"## {title}", ""]
        points = {point["mode"]: point for point in points_of(folder, name)}
        if not {"inproc", "http"} <= points.keys():
            lines += [f"No report: {codes.get(name, 'no time was left')}.", ""]
            continue
        lines += ["| | in process | HTTP | difference |", "|---|---|---|---|"]
        for key, label in FIGURES:
            if key == "achieved_rate" and not points["inproc"]["scheduled_rate"]:
                continue  # all at once: nothing is sent over time
            first, second = points["inproc"][key], points["http"][key]
            difference = f"{100 * (second / first - 1):+.1f} %" if first else ""
            lines.append(f"| {label} | {first:.2f} | {second:.2f} | {difference} |")
        noted = sorted({f"{point['mode']}: {check['status']} {check['name']}: {check['message']}"
                        for point in points.values() for check in point["checks"] if check["status"] in ("WARNING", "INVALID")})
        lines += ["", *[f"- {line}" for line in noted], ""]
    (folder / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def main():
    arguments, extra = sys.argv[1:], []
    if "--" in arguments:
        split = arguments.index("--")
        arguments, extra = arguments[:split], arguments[split + 1:]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--time-limit", type=float, default=1500, help="seconds for all workloads")
    parser.add_argument("--program", default="build/release/llmrun")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--note", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args(arguments)
    workloads = SMOKE if options.smoke else WORKLOADS
    if options.only:
        workloads = [one for one in workloads if one[0] in options.only.split(",")]
    if options.list:
        print("\n".join(f"{name}: {title}" for name, title, _, _ in workloads))
        return 0
    if options.out is None or not workloads:
        parser.error("--out DIR is needed, and --only must name workloads of --list")
    extra = (["--device", "cpu"] if options.smoke else ["--device", "cuda"]) + extra
    folder = options.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if options.note:
        note(folder, workloads, {})
        return 0
    program = relative_program(options.program)
    (folder / "environment.json").write_text(json.dumps(environment(program), indent=2) + "\n", encoding="utf-8")
    end = time.monotonic() + options.time_limit
    codes = {}
    for workload in workloads:
        left = end - time.monotonic()
        if left > 1:
            codes[workload[0]] = run(program, workload, extra, folder, left)
    note(folder, workloads, codes)
    return 0 if len(codes) == len(workloads) and all(code == 0 for code in codes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
