#!/usr/bin/env python3
"""Compares llmrun's ids and texts with Hugging Face's on many random strings, for each family.

    python3 scripts/compare_tokenizers.py --llmrun build/release/llmrun --count 1000000

Tokenizers are trained as scripts/make_tokenizer_goldens.py does (or taken from --models DIR, a folder
of model folders), the strings are its strings with another seed: scripts of the world, code, random
Unicode and bytes, white space, digits, runs, embedded special tokens; and runs of one character of
1 MiB. Each is encoded, decoded, and decoded token by token. Writes a report to --report.
Needs what make_tokenizer_goldens.py needs.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import tempfile
import time

import make_tokenizer_goldens as goldens

LONG_RUNS = ["a", " ", "\n", "0", "!", "é", "的", "😀"]
LONG_RUN_BYTES = 1 << 20
CHUNK = 50000


def long_run_lines(reference):
    for unit in LONG_RUNS:
        text = unit * (LONG_RUN_BYTES // len(unit.encode()))
        ids = reference.encode(text, False)
        yield {"text": text, "ids": ids, **goldens.decoded(reference, ids)}


def check(llmrun, folder, lines, work):
    """(lines, differences, first difference)"""
    path = work / "lines.jsonl"
    with open(path, "w", encoding="ascii") as out:
        count = 0
        for line in lines:
            out.write(json.dumps(line, separators=(",", ":")) + "\n")
            count += 1
    run = subprocess.run([llmrun, "tokenize", "-m", folder, "--check", path],
                         capture_output=True, text=True, check=False)
    if run.returncode not in (0, 1) or run.returncode == 1 and " differ; " not in run.stdout:
        raise SystemExit(f"{folder}: {run.stdout}{run.stderr}")
    last = run.stdout.strip().split("\n")[-1]
    if run.returncode == 0:
        return count, 0, None
    return count, int(last.split(" ")[0]), last[:400]


def compare(name, args, work):
    folder = work / name
    if args.models:
        shutil.copytree(args.models / name, folder)
    else:
        folder.mkdir()
        goldens.MAKERS[name](folder)
        (folder / "config.json").write_text("{}")
    reference = goldens.load_reference(folder)
    start = time.time()
    result = {"family": name, "vocabulary": reference.vocab_size, "strings": 0, "differences": 0,
              "long_runs": 0}
    for number in range((args.count + CHUNK - 1) // CHUNK):
        size = min(CHUNK, args.count - number * CHUNK)
        lines = goldens.golden_lines(reference, size, args.seed + number)
        count, differences, first = check(args.llmrun, folder, lines, work)
        result["strings"] += count
        result["differences"] += differences
        if first:
            result.setdefault("first_difference", first)
    if not args.no_long_runs and isinstance(reference, goldens.BpeReference):
        count, differences, first = check(args.llmrun, folder, long_run_lines(reference), work)
        result["long_runs"] = count
        result["differences"] += differences
        if first:
            result.setdefault("first_difference", first)
    result["seconds"] = round(time.time() - start, 1)
    return result


def main():
    import tokenizers
    import transformers
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--llmrun", default="build/release/llmrun")
    parser.add_argument("--count", type=int, default=1000000, help="strings a family")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--models", type=pathlib.Path, help="folder of model folders")
    parser.add_argument("--only", nargs="*", help="families")
    parser.add_argument("--no-long-runs", action="store_true")
    parser.add_argument("--report", type=pathlib.Path,
                        default=pathlib.Path("results/tokenizer/equality.json"))
    args = parser.parse_args()
    names = sorted(p.name for p in args.models.iterdir()) if args.models else list(goldens.MAKERS)
    report = {"count": args.count, "seed": args.seed, "tokenizers": tokenizers.__version__,
              "transformers": transformers.__version__, "families": []}
    for name in args.only or names:
        with tempfile.TemporaryDirectory() as work:
            result = compare(name, args, pathlib.Path(work))
        print(json.dumps(result, ensure_ascii=False), flush=True)
        report["families"].append(result)
        args.report.parent.mkdir(parents=True, exist_ok=True)
        args.report.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    if any(family["differences"] for family in report["families"]):
        raise SystemExit("there are differences")


if __name__ == "__main__":
    main()
