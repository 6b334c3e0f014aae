#!/usr/bin/env python3
"""Writes the tables and figures of README.md from the files under results/ and datasets/, between their markers.

usage: update_readme.py [--check]      --check only tells whether README.md is current (exit status 1 if not)

A block stands between <!-- begin NAME --> and <!-- end NAME -->; NAME is a function below.
"""
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def read_json(path):
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def machine(results):
    """The processor, the instruction set and the threads, once each."""
    _, isa, threads = results["device"].rsplit(", ", 2)
    return f"{results['cpu'].replace('(R)', '')}, {isa}, {threads}"


def speed():
    parts = []
    for folder in sorted((ROOT / "results").glob("cpu-*")):
        if not (folder / "results.json").is_file():
            continue
        results = read_json(f"results/{folder.name}/results.json")
        seconds, limits, peaks = results["seconds"], results["limit_seconds"], results["peaks"]
        rows = [("1 prompt of 64 tokens, 128 output tokens: time per token", f"{1e3 * seconds['decode']:.2f} ms", f"{1e3 * limits['decode']:.2f} ms", "decode"),
                ("1 prompt of 512 tokens: time to the first token", f"{1e3 * seconds['prefill']:.0f} ms", f"{1e3 * limits['prefill']:.0f} ms", "prefill"),
                ("25 prompts of 64 tokens, 128 output tokens each: time for all", f"{seconds['batch']:.2f} s ({25 * 128 / seconds['batch']:.0f} tokens/s)",
                 f"{limits['batch']:.2f} s", "batch")]
        table = "\n".join(f"| {name} | {measured} | {limit} | {100 * results['share'][key]:.0f} % |" for name, measured, limit, key in rows)
        parts.append(f"{results['model']} in bf16 on {machine(results)}: {peaks['bandwidth'] / 1e9:.1f} GB/s read bandwidth, "
                     f"{peaks['flops'] / 1e12:.2f} bf16 TFLOP/s, measured in the same run (`results/{folder.name}/`, by `scripts/bench_cpu.py`).\n\n"
                     f"| workload | measured | limit | share of the limit |\n|---|---|---|---|\n{table}")
    return "\n\n".join(parts)


def demo():
    metrics = read_json("datasets/demo/metrics.json")
    accuracy = read_json("results/demo-accuracy/accuracy.json")
    test = metrics["test"]
    kinds = metrics["held_out_large"]["per_kind"]
    hardest = sorted(kinds.items(), key=lambda item: item[1])[:4]
    return (f"`datasets/demo/model` is a Llama-architecture checkpoint of {metrics['parameters'] / 1e6:.1f} M parameters, trained by "
            f"`scripts/train_demo_model.py` on synthetic word problems and small talk. Greedy, it solves "
            f"{accuracy['right']} of the {accuracy['problems']} held-out problems of `datasets/demo/test.jsonl` "
            f"({100 * accuracy['right'] / accuracy['problems']:.1f} %) with llmrun, and {100 * test['accuracy']:.1f} % with transformers; "
            f"on {metrics['held_out_large']['problems']} further held-out problems its hardest kinds stay hard: "
            + ", ".join(f"{name} {100 * share:.0f} %" for name, share in hardest)
            + ". How it was made, and how the split excludes leakage: `datasets/README.md`.")


def bars_svg(rows, path):
    """Horizontal bars of shares between 0 and 1, as a picture that reads on light and dark pages."""
    width, bar_height, gap, left = 720, 22, 14, 250
    height = len(rows) * (bar_height + gap) + gap + 18
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
             f'<rect width="{width}" height="{height}" fill="#ffffff"/>']
    scale = width - left - 70
    for i, (label, share) in enumerate(rows):
        y = gap + i * (bar_height + gap)
        parts.append(f'<text x="{left - 10}" y="{y + 15}" text-anchor="end" fill="#222222">{label}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{scale}" height="{bar_height}" fill="#e8ecf0"/>')
        parts.append(f'<rect x="{left}" y="{y}" width="{scale * min(share, 1):.1f}" height="{bar_height}" fill="#2f6fb2"/>')
        parts.append(f'<text x="{left + scale + 8}" y="{y + 15}" fill="#222222">{100 * share:.0f} %</text>')
    parts.append(f'<text x="{left}" y="{height - 6}" fill="#555555">share of the limit measured on the same machine in the same run</text>')
    parts.append("</svg>\n")
    (ROOT / path).write_text("\n".join(parts), encoding="utf-8")


def picture():
    rows = []
    for folder in sorted((ROOT / "results").glob("cpu-*")):
        if (folder / "results.json").is_file():
            results = read_json(f"results/{folder.name}/results.json")
            isa = results["device"].split(", ")[1] if ", " in results["device"] else results["device"]
            for key, label in (("decode", "decode, batch 1"), ("prefill", "prefill of 512"), ("batch", "25 x 64/128")):
                rows.append((f"{isa}: {label}", results["share"][key]))
    bars_svg(rows, "results/cpu-share.svg")
    return "![Share of the machine's limit that the CPU backend reaches](results/cpu-share.svg)"


BLOCKS = {"speed": speed, "picture": picture, "demo": demo}


def main():
    readme = ROOT / "README.md"
    before = readme.read_text(encoding="utf-8")
    after = before
    for name, make in BLOCKS.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.S)
        if not pattern.search(after):
            sys.exit(f"README.md has no block {name}")
        after = pattern.sub(lambda match, text=make(): match[1] + text + "\n" + match[2], after)
    if "--check" in sys.argv[1:]:
        if after != before:
            sys.exit("README.md is not what scripts/update_readme.py writes; run it")
        return
    readme.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
