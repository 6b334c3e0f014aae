#!/usr/bin/env python3
"""Measures the engine on this machine's CPU against the limits of the same machine, in one run.

usage: bench_cpu.py [--build DIR] [--out DIR] [--threads N] [--repeats N] [--model SHAPE]

Three workloads of one model shape with random bf16 weights, prefix cache off, end-of-sequence ignored:
  decode   1 prompt of 64 tokens, 128 output tokens: time per output token after the first
  prefill  1 prompt of 512 tokens: time to the first token
  batch    25 prompts of 64 tokens, 128 output tokens each: time until the last is done
Each run is compared with the time that the read bandwidth and the bf16 arithmetic allow, as llmrun-kernel-bench
measures them right before and after it, the better of both: bytes of weights (and of the KV cache) over bandwidth, or
operations over the peak, whichever takes longer, step by step. Shared machines change their speed by the minute; of
each workload the run with the median share is told. Writes DIR/results.json, DIR/results.md and DIR/kernels.json.
"""
import argparse
import json
import pathlib
import platform
import random
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPES = {  # hidden, layers, query heads, KV heads, head dim, MLP, vocabulary
    "qwen2.5-0.5b": (896, 24, 14, 2, 64, 4864, 151936),
}
TOKEN_BUDGET = 512  # --max-num-batched-tokens
BYTES = 2           # of a bf16 weight and of a bf16 KV element


class Model:
    def __init__(self, hidden, layers, heads, kv_heads, head_dim, mlp, vocab):
        self.layer_params = layers * (2 * hidden * heads * head_dim + 2 * hidden * kv_heads * head_dim + 3 * hidden * mlp)
        self.head_params = vocab * hidden
        self.weight_bytes = BYTES * (self.layer_params + self.head_params)
        self.kv_bytes = 2 * layers * kv_heads * head_dim * BYTES
        self.attention_flops = 4 * layers * heads * head_dim  # for each (query token, context token)

    def step_seconds(self, tokens, sampled, context_tokens, peaks):
        """The least time of a step: matrix products, then attention over `context_tokens` cached tokens."""
        flops = 2 * self.layer_params * tokens + 2 * self.head_params * sampled
        products = max(self.weight_bytes / peaks["bandwidth"], flops / peaks["flops"])
        return products + self.kv_bytes * context_tokens / peaks["bandwidth"]


def limit_seconds(model, num_prompts, prompt_len, output_len, peaks):
    """All prompts at once, chunked prefill in TOKEN_BUDGET tokens a step behind the running sequences."""
    computed = [0] * num_prompts
    produced = [0] * num_prompts
    total = 0.0
    while min(produced) < output_len:
        budget, tokens, sampled, context = TOKEN_BUDGET, 0, 0, 0
        for i in range(num_prompts):
            if produced[i] >= output_len or budget == 0:
                continue
            known = prompt_len + produced[i]
            chunk = min(known - computed[i], budget)
            budget -= chunk
            tokens += chunk
            computed[i] += chunk
            context += computed[i]
            if computed[i] == known:
                sampled += 1
                produced[i] += 1
        total += model.step_seconds(tokens, sampled, context, peaks)
    return total


def run(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def write_prompts(path, num_prompts, prompt_len, output_len, vocab):
    generator = random.Random(2024)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(num_prompts):
            ids = [generator.randrange(vocab) for _ in range(prompt_len)]
            file.write(json.dumps({"prompt_token_ids": ids, "max_tokens": output_len, "ignore_eos": True,
                                   "temperature": 0}) + "\n")


def generate(program, prompts, shape, threads):
    output = run([program, "generate", prompts, "-m", "shape:" + shape, "--dtype", "bfloat16", "--max-model-len", "1024",
                  "--max-num-seqs", "64", "--max-num-batched-tokens", str(TOKEN_BUDGET), "--no-enable-prefix-caching",
                  "--device", "cpu", "--threads", str(threads), "--quiet"])
    return [json.loads(line) for line in output.splitlines()]


def measure_peaks(bench):
    peaks = json.loads(run(bench + ["--output", "json", "--filter", "no row, the peaks alone"]))
    return {"bandwidth": peaks["read_bytes_per_s"], "flops": peaks["bf16_flops_per_s"]}


def limits(model, peaks):
    """The least seconds of each workload."""
    return {
        "decode": statistics.mean(model.step_seconds(1, 1, 65 + i, peaks) for i in range(127)),
        "prefill": model.step_seconds(512, 1, 512, peaks) + model.attention_flops * 512 * 513 / 2 / peaks["flops"],
        "batch": limit_seconds(model, 25, 64, 128, peaks),
    }


def measure(program, bench, shape, threads, repeats):
    """Of each workload its runs, each with its peaks, seconds, limit and share, in the order of their shares."""
    model, vocab = Model(*SHAPES[shape]), SHAPES[shape][6]
    runs = {"decode": [], "prefill": [], "batch": []}
    with tempfile.TemporaryDirectory() as folder:
        workloads = {name: (pathlib.Path(folder) / name, *size) for name, size in
                     {"decode": (1, 64, 128), "prefill": (1, 512, 1), "batch": (25, 64, 128)}.items()}
        for path, *size in workloads.values():
            write_prompts(path, *size, vocab)
        before = measure_peaks(bench)
        for _ in range(repeats):  # interleaved, so that a slow moment of the machine hits all alike
            for name, (path, _, _, output_len) in workloads.items():
                timings = [record["timings"] for record in generate(program, str(path), shape, threads)]
                after = measure_peaks(bench)
                if name == "decode":
                    seconds = (timings[0]["total_s"] - timings[0]["ttft_s"]) / (output_len - 1)
                elif name == "prefill":
                    seconds = timings[0]["ttft_s"]
                else:
                    seconds = max(t["total_s"] for t in timings)
                peaks = {peak: max(before[peak], after[peak]) for peak in before}
                limit = limits(model, peaks)[name]
                runs[name].append({"seconds": seconds, "limit_seconds": limit, "share": limit / seconds, "peaks": peaks})
                before = after
    return {name: sorted(values, key=lambda value: value["share"]) for name, values in runs.items()}


def cpu_name():
    for line in open("/proc/cpuinfo", encoding="utf-8"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(ROOT / "build/release"))
    parser.add_argument("--out", required=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", default="qwen2.5-0.5b", choices=sorted(SHAPES))
    args = parser.parse_args()

    build, out = pathlib.Path(args.build), pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    bench = [str(build / "llmrun-kernel-bench"), "--device", "cpu", "--threads", str(args.threads), "--model-shape", args.model]
    runs = measure(str(build / "llmrun"), bench, args.model, args.threads, args.repeats)
    kernels = json.loads(run(bench + ["--output", "json"]))

    told = {name: values[(len(values) - 1) // 2] for name, values in runs.items()}
    peaks = {peak: [value["peaks"][peak] for values in runs.values() for value in values] for peak in ("bandwidth", "flops")}
    version = run([str(build / "llmrun"), "--version"]).strip()
    results = {"version": version, "cpu": cpu_name(), "device": kernels["device"], "model": args.model,
               "peaks": {peak: statistics.median(values) for peak, values in peaks.items()},
               "peak_range": {peak: [min(values), max(values)] for peak, values in peaks.items()},
               "seconds": {name: value["seconds"] for name, value in told.items()},
               "limit_seconds": {name: value["limit_seconds"] for name, value in told.items()},
               "share": {name: value["share"] for name, value in told.items()}, "runs": runs}
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (out / "kernels.json").write_text(json.dumps(kernels, indent=2) + "\n", encoding="utf-8")

    seconds, limit = results["seconds"], results["limit_seconds"]
    rows = [("decode, 1 x 64/128", f"{1e3 * seconds['decode']:.2f} ms/token", f"{1e3 * limit['decode']:.2f} ms", "decode"),
            ("prefill, 512 tokens", f"{1e3 * seconds['prefill']:.0f} ms", f"{1e3 * limit['prefill']:.0f} ms", "prefill"),
            ("25 x 64/128", f"{seconds['batch']:.2f} s ({25 * 128 / seconds['batch']:.0f} tokens/s)",
             f"{limit['batch']:.2f} s", "batch")]
    table = ["| workload | measured | limit | share of the limit |", "|---|---|---|---|"]
    table += [f"| {name} | {measured} | {limit} | {100 * results['share'][key]:.0f} % |" for name, measured, limit, key in rows]
    low, high = ([results["peak_range"][peak][i] for peak in ("bandwidth", "flops")] for i in range(2))
    text = (f"{args.model} in bf16 on {results['cpu']} ({kernels['device']}): read bandwidth {low[0] / 1e9:.1f} to {high[0] / 1e9:.1f} "
            f"GB/s, bf16 peak {low[1] / 1e12:.2f} to {high[1] / 1e12:.2f} TFLOP/s, measured before and after each run; "
            f"of {args.repeats} {'run' if args.repeats == 1 else 'runs'} the one with the median share.\n\n" + "\n".join(table) + "\n")
    (out / "results.md").write_text(text, encoding="utf-8")
    print(text)
    if any(high > 1.1 * low for low, high in results["peak_range"].values()):
        print("note: the machine's peaks changed by more than 10 % between the runs; is anything else running on it?")


if __name__ == "__main__":
    main()
