#!/usr/bin/env python3
"""Answers the demo model's held-out problems with llmrun, greedily, and counts the right ones.

usage: demo_accuracy.py [--llmrun PROGRAM] [--out DIR] [-- LLMRUN FLAGS...]

A problem is right when the number after the last "####" of the text equals the answer's. Writes DIR/accuracy.json.
"""
import argparse
import collections
import json
import pathlib
import re
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def final_number(text):
    numbers = re.findall(r"#### (-?[\d,]+)", text)
    return numbers[-1].replace(",", "") if numbers else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llmrun", default=str(ROOT / "build/release/llmrun"))
    parser.add_argument("--out")
    parser.add_argument("flags", nargs="*")
    args = parser.parse_args()

    problems = [json.loads(line) for line in open(ROOT / "datasets/demo/test.jsonl", encoding="utf-8")]
    prompts = "".join(json.dumps({"id": i, "prompt": f"Question: {p['question']}\nAnswer:"}) + "\n"
                      for i, p in enumerate(problems))
    start = time.monotonic()
    output = subprocess.run([args.llmrun, "generate", "-", "--format", "jsonl", "--quiet", *args.flags], input=prompts,
                            check=True, capture_output=True, text=True).stdout
    seconds = time.monotonic() - start

    right = collections.Counter()
    total = collections.Counter()
    tokens = 0
    for line in output.splitlines():
        record = json.loads(line)
        problem = problems[int(record["id"])]
        tokens += record["usage"]["completion_tokens"]
        total[problem["kind"]] += 1
        right[problem["kind"]] += final_number(record["outputs"][0]["text"]) == final_number(problem["answer"])
    result = {"problems": sum(total.values()), "right": sum(right.values()), "seconds": round(seconds, 2),
              "output_tokens": tokens, "flags": args.flags,
              "version": subprocess.run([args.llmrun, "--version"], check=True, capture_output=True, text=True).stdout.strip(),
              "per_kind": {kind: f"{right[kind]}/{total[kind]}" for kind in sorted(total)}}
    print(f"{result['right']} of {result['problems']} right ({100 * result['right'] / result['problems']:.1f} %), "
          f"{seconds:.1f} s, {tokens / seconds:.0f} output tokens/s")
    if args.out:
        folder = pathlib.Path(args.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "accuracy.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
