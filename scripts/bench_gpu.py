#!/usr/bin/env python3
"""Measures `llmrun throughput` on this machine's GPU over a fixed list of workloads, then its operations one by one.

usage: bench_gpu.py --out results/cuda-CARD [--only NAME,...] [--skip NAME,...] [--time-limit S] [-- FLAGS FOR LLMRUN]
       bench_gpu.py --out DIR --note     only rewrite DIR/README.md, after runs of several calls were put together
       bench_gpu.py --out DIR --smoke    the same steps with the demo model and small counts on the CPU, to try the script
       bench_gpu.py --list

Writes, for each workload, DIR/NAME.json (the report of `llmrun throughput --output-json`) and DIR/NAME.txt (its text, its
log and exit code); DIR/kernels.json, what llmrun-kernel-bench, which lies beside llmrun, says of each shape ("kernels" in
--only and --skip); beside them DIR/environment.json and DIR/README.md. A workload that fails leaves its text and the
next one runs. What stands in DIR/README.md from a line "## Notes" on is kept. scripts/update_readme.py makes README.md's
tables of the JSON files. Only the program and the source tree are needed, no build folder and no package.
"""
import argparse
import dataclasses
import json
import pathlib
import shlex
import subprocess
import sys
import time

from bench_machine import ROOT, environment, relative_program

SCRATCH = "build/bench-gpu"  # relative, so that command lines in reports name no folder of this machine
DEMO_MODEL = "datasets/demo/model"
NOTES_HEADING = "## Notes"
NOT_SHOWN = ("weights are random, so that text never ends early (ignore_eos) and logits are flat; the prefix cache is off; all requests "
             "are there at the start and have equal lengths; one machine, one card, no other engine beside it in the same run.")

SECONDS = "s"
MILLISECONDS_PER_TOKEN = "ms/token"
TOKENS_PER_SECOND = "tokens/s"


@dataclasses.dataclass(frozen=True)
class Workload:
    """One call of `llmrun throughput`. `roofline`, `goal` and `limit` are figures in `unit` for one H200: what 4.3 TB/s and
    790 TFLOP/s allow, what is aimed at, and what the result must not be worse than; `naive_limit` is in requests/s."""
    name: str
    title: str
    model: str
    arguments: str
    unit: str = ""
    roofline: float = 0
    goal: float = 0
    limit: float = 0
    naive_limit: float = 0

    def flag(self, name):
        words = self.arguments.split()
        return words[words.index(name) + 1] if name in words else None


KERNELS = "kernels"
KERNEL_SHAPES = ["qwen2-7b", "llama-3-8b"]
KERNEL_SECONDS = 0.05  # for each operation
QWEN2 = "shape:qwen2-7b"
LLAMA3 = "shape:llama-3-8b"
WORKLOADS = [
    Workload("qwen2-7b-25x64-128", "Qwen2-7B, 25 prompts, 64 in, 128 out", QWEN2,
             "--input-len 64 --output-len 128 --num-prompts 25 --seed 2024 --backend paged,naive --repeats 5",
             SECONDS, 0.450, 0.50, 0.58, naive_limit=7.3),
    Workload("qwen2-7b-1x64-512", "Qwen2-7B, 1 prompt, 64 in, 512 out", QWEN2,
             "--input-len 64 --output-len 512 --num-prompts 1 --seed 2024 --backend paged --repeats 3",
             MILLISECONDS_PER_TOKEN, 3.3, 3.6, 4.0),
    Workload("llama3-8b-128-128", "Llama-3-8B, 128 in, 128 out, output", LLAMA3,
             "--input-len 128 --output-len 128 --num-prompts 12288 --max-num-seqs 2048 --seed 2024 --backend paged --repeats 1",
             TOKENS_PER_SECOND, 23.4e3, 21e3, 18e3),
    Workload("llama3-8b-1000-1000", "Llama-3-8B, 1000 in, 1000 out, output", LLAMA3,
             "--input-len 1000 --output-len 1000 --num-prompts 1200 --max-num-seqs 605 --seed 2024 --backend paged --repeats 1",
             TOKENS_PER_SECOND, 12.1e3, 10.5e3, 9e3),
    Workload("llama3-8b-2048-128", "Llama-3-8B, 2048 in, 128 out, output", LLAMA3,
             "--input-len 2048 --output-len 128 --num-prompts 1300 --max-num-seqs 429 --seed 2024 --backend paged --repeats 1",
             TOKENS_PER_SECOND, 2.63e3, 2.35e3, 2.0e3),
    Workload("qwen2-7b-1000x161-338", "Qwen2-7B, 1000 prompts, 161 in, 338 out", QWEN2,
             "--input-len 161 --output-len 338 --num-prompts 1000 --seed 2024 --backend paged --repeats 2",
             SECONDS, 10.2, 11.5, 13.0),
    Workload("qwen2-7b-100x161-338", "Qwen2-7B, 100 prompts, 161 in, 338 out", QWEN2,
             "--input-len 161 --output-len 338 --num-prompts 100 --seed 2024 --backend paged,naive --repeats 2",
             naive_limit=3.3),
    Workload("qwen2-7b-ablation", "Qwen2-7B, 100 prompts, 161 in, 338 out", QWEN2,
             "--ablation --input-len 161 --output-len 338 --num-prompts 100 --seed 2024 --repeats 1"),
    Workload("demo-cuda", "demo model, 200 prompts, 64 in, 128 out", DEMO_MODEL,
             "--device cuda --input-len 64 --output-len 128 --num-prompts 200 --seed 2024 --backend paged,naive --repeats 3"),
    Workload("demo-cpu", "demo model, 200 prompts, 64 in, 128 out, on the CPU", DEMO_MODEL,
             "--device cpu --input-len 64 --output-len 128 --num-prompts 200 --seed 2024 --backend paged --repeats 3"),
]


# ---- reading reports ----

def load_report(folder, workload):
    """The report of `workload` in `folder`, or None where it did not end with one."""
    try:
        return json.loads((folder / f"{workload.name}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def case_of(report, name):
    return next((case for case in report["cases"] if case["name"] == name), None)


def metric(case, name):
    """The mean over the repeats, or None where it was not measured."""
    return next((one["mean"] for one in case["metrics"] if one["name"] == name), None)


def half_width(case, name):
    """Half the 95 % interval of a metric's mean, or None for a single repeat."""
    return next((one.get("ci95_half_width") for one in case["metrics"] if one["name"] == name), None)


def latency(case, name):
    return next((one["mean"] for one in case["latencies"] if one["name"] == name), None)


def is_steady(case):
    return metric(case, "steady_output_tokens_per_s") is not None


def measured(workload, case):
    """The figure of `case` in the workload's unit, or None."""
    if workload.unit == SECONDS:
        return metric(case, "elapsed_s")
    if workload.unit == MILLISECONDS_PER_TOKEN:
        return latency(case, "tpot_ms")
    if workload.unit == TOKENS_PER_SECOND:
        return metric(case, "steady_output_tokens_per_s") or metric(case, "output_tokens_per_s")
    return None


def limit_share(case):
    """The time that this card's measured bandwidth and multiply rate allow, over the time taken; of the whole run."""
    percent = metric(case, "ideal_share_percent")
    return None if percent is None else percent / 100


def mismatches(workload, report):
    """What of the report is not as the workload says: of a smoke run, of other flags, of a file put to the wrong place."""
    lengths = {name: report["dataset"][name + "_tokens"]["mean"] for name in ("prompt", "output")}
    pairs = [("model", report["model"]["name"], workload.model),
             ("requests", report["dataset"]["num_requests"], int(workload.flag("--num-prompts"))),
             ("prompt tokens", lengths["prompt"], int(workload.flag("--input-len"))),
             ("output tokens", lengths["output"], int(workload.flag("--output-len"))),
             ("device", report["device"].get("kind", "not told"), workload.flag("--device") or "cuda")]
    return [f"{name} {there}, not {wanted}" for name, there, wanted in pairs if there != wanted]


def invalid_checks(report):
    return [check for check in report["checks"] if check["status"] == "INVALID"]


def show(value, unit):
    """Three significant digits and the unit."""
    if value is None:
        return significant(value)
    if unit == TOKENS_PER_SECOND:
        return f"{significant(value / 1e3)}k tokens/s" if value >= 1e3 else f"{significant(value)} tokens/s"
    return f"{significant(value)} {unit}"


def significant(value):
    if value is None:
        return "not measured"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def summary(workload, report):
    """One line: each case's figures."""
    parts = []
    for case in report["cases"]:
        figure = measured(workload, case) if workload.unit and case["name"] == "paged" else None
        text = f"{case['name']} {significant(metric(case, 'requests_per_s'))} req/s, {significant(metric(case, 'output_tokens_per_s'))} output tokens/s"
        if figure is not None:
            text += f", {show(figure, workload.unit)} (goal {show(workload.goal, workload.unit)})"
        share = limit_share(case)
        parts.append(text + ("" if share is None else f", {100 * share:.0f} % of the limit"))
    invalid = [f"INVALID: {check['case']}: {check['message']}" for check in invalid_checks(report)]
    wrong = mismatches(workload, report)
    return "; ".join(parts + invalid + ([f"NOT THE WORKLOAD: {', '.join(wrong)}"] if wrong else []))


# ---- running ----

SMOKE = {"--num-prompts": "4", "--input-len": "8", "--output-len": "8", "--max-num-seqs": "3", "--repeats": "2", "--device": "cpu"}


def command_line(llmrun, workload, extra, smoke):
    arguments = workload.arguments.split()
    model = workload.model
    if smoke:
        model = DEMO_MODEL
        if "--device" not in arguments:
            arguments = ["--device", "cpu"] + arguments
        arguments = [SMOKE.get(before, word) for before, word in zip([""] + arguments, arguments)]
    return [llmrun, "throughput", "-m", model, *arguments, *extra, "--output-json", f"{SCRATCH}/{workload.name}.json"]


def keep_report(name, out):
    """Moves the report to `out`, without the list of which requests were taken where all were, in order."""
    path = ROOT / SCRATCH / f"{name}.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    path.unlink()
    indices = report["dataset"].get("source_indices", [])
    if indices == list(range(len(indices))):
        report["dataset"].pop("source_indices", None)
    (out / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def error_line(log):
    lines = log.strip().splitlines() or ["no message"]
    return next((line for line in lines if "error:" in line), lines[-1])


def run_workload(workload, command, out, timeout_s):
    """Runs it and prints its line; whether it ended with a valid report."""
    scratch = ROOT / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    for path in (scratch / f"{workload.name}.json", out / f"{workload.name}.json"):
        path.unlink(missing_ok=True)
    log = scratch / f"{workload.name}.log"
    text = out / f"{workload.name}.txt"
    start = time.monotonic()
    with open(text, "w", encoding="utf-8") as stdout, open(log, "w", encoding="utf-8") as stderr:
        stdout.write(f"$ {shlex.join(command)}\n\n")
        stdout.flush()
        try:
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=ROOT, timeout=timeout_s).returncode
            outcome = f"exit code {status}"
        except subprocess.TimeoutExpired:
            outcome = f"stopped at its limit of {timeout_s:.4g} s"
        except OSError as error:
            outcome = f"did not start: {error.strerror}"
    outcome += f", {time.monotonic() - start:.1f} s with start-up and warm-up"
    log_text = log.read_text(encoding="utf-8", errors="replace")
    with open(text, "a", encoding="utf-8") as file:
        file.write(f"\n--- log ---\n{log_text}--- {outcome}\n")
    log.unlink()

    report = keep_report(workload.name, out)
    if report is None:
        print(f"| {workload.name} | FAILED, {outcome}: {error_line(log_text)} |", flush=True)
        return False
    print(f"| {workload.name} | {summary(workload, report)} | {outcome} |", flush=True)
    return report["valid"]


def kernel_command(llmrun, shape, smoke):
    program = str(pathlib.PurePath(llmrun).parent / "llmrun-kernel-bench")
    arguments = ["--device", "cuda", "--model-shape", shape, "--seconds", str(KERNEL_SECONDS), "--output", "json"]
    if smoke:
        arguments = ["--device", "cpu", "--model-shape", "qwen2.5-0.5b", "--filter", "rms_norm", "--seconds", "0.01", "--output", "json"]
    return [program, *arguments]


def run_kernels(llmrun, out, smoke, timeout_s):
    """Writes kernels.json; whether all shapes were timed. A failure leaves the file of an earlier run."""
    results = []
    start = time.monotonic()
    for shape in KERNEL_SHAPES:
        command = kernel_command(llmrun, shape, smoke)
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT, timeout=timeout_s)
            results.append({"command": shlex.join(command), **json.loads(done.stdout)})
        except subprocess.TimeoutExpired:
            print(f"| {KERNELS} | FAILED, {shape}: stopped at its limit of {timeout_s:.4g} s |", flush=True)
            return False
        except OSError as error:
            print(f"| {KERNELS} | FAILED, {shape}: did not start: {error.strerror} |", flush=True)
            return False
        except json.JSONDecodeError:
            print(f"| {KERNELS} | FAILED, {shape}: exit code {done.returncode}: {error_line(done.stderr)} |", flush=True)
            return False
    (out / "kernels.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    counts = [f"{result['model_shape']} {len(result['kernels'])} rows" for result in results]
    print(f"| {KERNELS} | {', '.join(counts)} | {time.monotonic() - start:.1f} s |", flush=True)
    return True


# ---- the note ----


def kernel_tables(folder):
    """What kernels.json says, as Markdown, and its commands."""
    try:
        results = json.loads((folder / "kernels.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return "", []
    parts = []
    for result in results:
        flops = result.get("bf16_flops_per_s")
        limits = f"read {result['read_bytes_per_s'] / 1e9:.0f} GB/s" + ("" if flops is None else f", bf16 multiply {flops / 1e12:.0f} TFLOP/s")
        lines = [f"Operations of {result['model_shape']} (`llmrun-kernel-bench`; medians; weights and KV caches cold, activations in the cache; "
                 f"measured in the same run: {limits}):", "",
                 "| operation | shape | tokens | us | GB/s | TFLOP/s | bound | share of the limit |", "|---|---|---|---|---|---|---|---|"]
        for row in result["kernels"]:
            seconds = row["median_s"]
            lines.append(f"| {row['kernel']} | {row['shape']} | {row['num_tokens']} | {significant(1e6 * seconds)} | {row['bytes'] / seconds / 1e9:.0f} | "
                         f"{row['flops'] / seconds / 1e12:.1f} | {row['bound']} | {100 * row['share_of_limit']:.0f} % |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts), [result["command"] for result in results]


def text_ends(folder, workload):
    """The command and the outcome that a run left in its text, or None."""
    try:
        lines = (folder / f"{workload.name}.txt").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    outcome = lines[-1].removeprefix("--- ") if lines[-1].startswith("--- ") else "cut off"
    return lines[0].removeprefix("$ "), outcome


def write_note(folder):
    """README.md of a results folder, from what lies there."""
    path = folder / "README.md"
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    kept = before[before.index("\n" + NOTES_HEADING):].strip() if "\n" + NOTES_HEADING in before else ""
    commands, rows, missing, devices, builds = [], [], [], [], []
    for workload in WORKLOADS:
        ends = text_ends(folder, workload)
        if ends is None:
            missing.append(workload.name)
            continue
        commands.append("    " + ends[0])
        report = load_report(folder, workload)
        if report is None:
            rows.append(f"| {workload.name} | FAILED | {ends[1]} |")
            continue
        rows.append(f"| {workload.name} | {summary(workload, report)} | {ends[1]} |")
        devices.append(report["device"]["description"])
        builds.append(f"{report['build']['version']} {report['build']['git_commit']} ({report['build']['compiler']}, {report['build']['build_type']})")
    kernels, kernel_commands = kernel_tables(folder)
    commands += ["    " + command for command in kernel_commands]
    parts = ["`llmrun throughput` on " + "; ".join(dict.fromkeys(devices)) + ". llmrun " + ", ".join(dict.fromkeys(builds)) + "." if devices
             else "No workload ended with a report.",
             "By `scripts/bench_gpu.py`, which writes this file up to a line \"## Notes\". Each workload has its report (`.json`), "
             "its text with log and exit code (`.txt`); the machine is in `environment.json`.",
             "\n".join(["| workload | figures | outcome |", "|---|---|---|"] + rows) if rows else "",
             kernels,
             "Not run: " + ", ".join(missing) + "." if missing else "",
             "What ran, in the source folder:\n\n" + "\n".join(commands) if commands else "",
             "What this does not show: " + NOT_SHOWN + " Figures in tokens/s with a goal are of the steady window where the "
             "report has one (`steady_output_tokens_per_s`), else of the whole run; shares of the limit are of the whole run, start and tail "
             "included, against bandwidth and multiply rate measured in the same run.",
             kept]
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def chosen_workloads(parser, args):
    known = {workload.name for workload in WORKLOADS} | {KERNELS}
    only, skip = (set(filter(None, text.split(","))) for text in (args.only, args.skip))
    for name in sorted((only | skip) - known):
        parser.error(f"unknown workload {name}; --list tells them")
    workloads = [one for one in WORKLOADS if (not only or one.name in only) and one.name not in skip]
    return workloads, (not only or KERNELS in only) and KERNELS not in skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help="folder to write to, such as results/cuda-h200")
    parser.add_argument("--only", default="", help="names of workloads, separated by commas")
    parser.add_argument("--skip", default="", help="names of workloads not to run")
    parser.add_argument("--llmrun", default="build/release/llmrun")
    parser.add_argument("--timeout", type=float, default=1200, help="seconds that one workload may take")
    parser.add_argument("--time-limit", type=float, default=float("inf"), help="seconds for all; what does not start in time is left out")
    parser.add_argument("--smoke", action="store_true", help="demo model and small counts on the CPU; its figures mean nothing")
    parser.add_argument("--note", action="store_true", help="only rewrite README.md of --out")
    parser.add_argument("--list", action="store_true", help="print the workloads")
    parser.add_argument("extra", nargs="*", metavar="FLAG", help="after --: further flags of llmrun throughput, for all workloads")
    args = parser.parse_args()
    if args.list:
        print("\n".join(f"{one.name}: -m {one.model} {one.arguments}" for one in WORKLOADS))
        print(f"{KERNELS}: llmrun-kernel-bench for {', '.join(KERNEL_SHAPES)}")
        return 0
    if not args.out:
        parser.error("--out is needed")
    out = pathlib.Path(args.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    if args.note:
        write_note(out)
        return 0

    workloads, with_kernels = chosen_workloads(parser, args)
    llmrun = relative_program(args.llmrun)
    (out / "environment.json").write_text(json.dumps(environment(llmrun), indent=2) + "\n", encoding="utf-8")
    end = time.monotonic() + args.time_limit
    all_valid = True
    for workload in workloads:
        left_s = end - time.monotonic()
        if left_s <= 1:
            print(f"| {workload.name} | left out: the time limit is reached |", flush=True)
            all_valid = False
            continue
        command = command_line(llmrun, workload, args.extra, args.smoke)
        all_valid = run_workload(workload, command, out, min(args.timeout, left_s)) and all_valid
        write_note(out)
    if with_kernels:
        left_s = end - time.monotonic()
        if left_s > 1:
            all_valid = run_kernels(llmrun, out, args.smoke, min(args.timeout, left_s)) and all_valid
            write_note(out)
        else:
            print(f"| {KERNELS} | left out: the time limit is reached |", flush=True)
            all_valid = False
    return 0 if all_valid else 1


if __name__ == "__main__":
    sys.exit(main())
