#!/usr/bin/env python3
"""Compares llmrun's ids and texts with Hugging Face's on many random strings, for each family.

    python3 scripts/compare_tokenizers.py --llmrun build/release/llmrun --count 1000000

Tokenizers are trained as scripts/make_tokenizer_goldens.py does (or taken from --models DIR, a folder
of model folders), the strings are its strings with another seed: scripts of the world, code, random
Unicode and bytes, white space, digits, runs, embedded special tokens; and runs of one character of
1 MiB. Each is encoded, decoded, and decoded token by token, by one process for a family. The report
at --report is kept after each family; --add keeps the families that it has already.
Needs what make_tokenizer_goldens.py needs.
"""

import argparse
import json
import os
import pathlib
import pickle
import random
import shutil
import subprocess
import tempfile
import time

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
import make_tokenizer_goldens as goldens  # noqa: E402

LONG_RUNS = ["a", " ", "\n", "0", "!", "é", "的", "😀"]
LONG_RUN_BYTES = 1 << 20
CHUNK = 20000


def write_texts(path, count, seed):
    """The strings, the same for all families, in pickled lists of CHUNK."""
    with open(path, "wb") as out:
        for number in range((count + CHUNK - 1) // CHUNK):
            size = min(CHUNK, count - number * CHUNK)
            pickle.dump(goldens.make_texts(goldens.StringMaker(seed + number), size), out)


def read_texts(path):
    with open(path, "rb") as file:
        while file.peek(1):
            yield pickle.load(file)


def long_run_lines(reference):
    for unit in LONG_RUNS:
        text = unit * (LONG_RUN_BYTES // len(unit.encode()))
        line = {"text": text, "ids": reference.encode_all([text], False)[0]}
        goldens.add_decoded(reference, [line])
        yield [line]


class Check:
    """`llmrun tokenize --check -`, fed with lines."""

    def __init__(self, llmrun, folder):
        self.process = subprocess.Popen([llmrun, "tokenize", "-m", folder, "--check", "-"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = 0

    def write(self, lines):
        self.lines += len(lines)
        self.process.stdin.write(
            "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))

    def finish(self):
        """(number of differences, the first one)"""
        output, _ = self.process.communicate()
        last = output.strip().split("\n")[-1]
        if self.process.returncode == 0 and last == f"{self.lines} line{'' if self.lines == 1 else 's'} equal":
            return 0, None
        if self.process.returncode != 1 or " differ; " not in last:
            raise SystemExit(f"exit code {self.process.returncode}: {output}")
        return int(last.split(" ")[0]), last[:400]


def compare(name, args, texts_path, work):
    folder = work / name
    if args.models:
        shutil.copytree(args.models / name, folder)
    else:
        folder.mkdir()
        goldens.MAKERS[name](folder)
    reference = goldens.load_reference(folder)
    start = time.time()
    result = {"family": name, "vocabulary": reference.vocab_size}
    check = Check(args.llmrun, folder)
    for number, texts in enumerate(read_texts(texts_path)):
        numbers = random.Random(args.seed + number)
        check.write(goldens.golden_lines(reference, texts, numbers))
    result["lines"] = check.lines
    differences, first = check.finish()
    check = Check(args.llmrun, folder)
    if not args.no_long_runs:
        for lines in long_run_lines(reference):
            check.write(lines)
    result["long_runs"] = check.lines
    more, first_of_runs = check.finish()
    result["differences"] = differences + more
    if first or first_of_runs:
        result["first_difference"] = first or first_of_runs
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
    parser.add_argument("--add", action="store_true", help="to the families of the report")
    parser.add_argument("--report", type=pathlib.Path,
                        default=pathlib.Path("results/tokenizer/equality.json"))
    args = parser.parse_args()
    names = sorted(p.name for p in args.models.iterdir()) if args.models else list(goldens.MAKERS)
    version = subprocess.run([args.llmrun, "--version"], capture_output=True, text=True, check=True)
    report = {"llmrun": version.stdout.strip(), "strings": args.count, "seed": args.seed,
              "tokenizers": tokenizers.__version__,
              "transformers": transformers.__version__, "families": []}
    if args.add and args.report.exists():
        report["families"] = json.loads(args.report.read_text())["families"]
    args.report.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        texts_path = pathlib.Path(work) / "texts"
        write_texts(texts_path, args.count, args.seed)
        for name in args.only or names:
            result = compare(name, args, texts_path, pathlib.Path(work))
            print(json.dumps(result, ensure_ascii=False), flush=True)
            report["families"] = [family for family in report["families"]
                                  if family["family"] != name] + [result]
            args.report.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    if any(family["differences"] for family in report["families"]):
        raise SystemExit("there are differences")


if __name__ == "__main__":
    main()
