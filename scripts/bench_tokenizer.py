#!/usr/bin/env python3
"""Encodes the same prose with llmrun and with Hugging Face's tokenizers, on one thread each.

    python3 scripts/bench_tokenizer.py --llmrun build/release/llmrun --work /tmp/bench

Trains a byte-level BPE of 128,256 tokens with Llama-3's chain on local text (--text, kept in --work),
takes documents of mostly letters from it, and lets both encode them in turn --repeats times. Times are
CPU seconds of encoding alone; the ids must be equal. Writes --report. Needs: tokenizers.
"""

import argparse
import gzip
import json
import os
import pathlib
import platform
import re
import subprocess
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

# pylint: disable=wrong-import-position
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from make_tokenizer_goldens import CORPUS, LLAMA3_PATTERN

VOCABULARY = 128256
NUM_SPECIAL = 256
DOCUMENT = 4000


def read_texts(folders, limit):
    size = 0
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if not path.is_file() or size > limit:
                continue
            try:
                data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
                text = data.decode("utf-8")
            except (UnicodeDecodeError, OSError, EOFError):
                continue
            size += len(text)
            yield text


def train(texts, folder):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts + CORPUS, trainers.BpeTrainer(
        vocab_size=VOCABULARY - NUM_SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens([AddedToken(f"<|reserved_special_token_{i}|>", special=True,
                                             normalized=False) for i in range(NUM_SPECIAL)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=True)
    (folder / "config.json").write_text("{}")


def prose(texts, limit):
    size = 0
    for text in texts:
        for begin in range(0, len(text), DOCUMENT):
            part = text[begin:begin + DOCUMENT]
            if len(part) < 500 or sum(c.isalpha() for c in part) < 0.74 * len(part):
                continue
            if size > limit:
                return
            size += len(part)
            yield part


def time_reference(folder, documents):
    start = time.process_time()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    load = time.process_time() - start
    start = time.process_time()
    encodings = tokenizer.encode_batch_fast(documents, add_special_tokens=False)
    return load, time.process_time() - start, [encoding.ids for encoding in encodings]


def time_llmrun(llmrun, folder, lines):
    run = subprocess.run([llmrun, "tokenize", "-m", folder, "--check", lines], text=True,
                         capture_output=True, check=False)
    found = re.match(r"[\d.]+ MB encoded in ([\d.]+) s, .* loaded in ([\d.]+) s", run.stdout)
    if run.returncode != 0 or not found:
        raise SystemExit(run.stdout + run.stderr)
    return float(found[2]), float(found[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--llmrun", default="build/release/llmrun")
    parser.add_argument("--text", nargs="+", default=["/usr/share/doc", "/usr/share/perl",
                                                      "/usr/lib/python3"])
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--report", type=pathlib.Path,
                        default=pathlib.Path("results/tokenizer/speed.json"))
    args = parser.parse_args()
    folder = args.work / "bpe128k"
    texts = list(read_texts(args.text, 60_000_000))
    if not (folder / "tokenizer.json").exists():
        train(texts, folder)
    documents = list(prose(texts, 10_000_000))
    size = sum(len(document.encode()) for document in documents) / 1e6
    runs = {"llmrun": [], "tokenizers": []}
    lines = args.work / "prose.jsonl"
    for _ in range(args.repeats):
        load, seconds, ids = time_reference(folder, documents)
        runs["tokenizers"].append({"load_s": load, "mb_per_s": size / seconds})
        with open(lines, "w", encoding="ascii") as out:
            for text, expected in zip(documents, ids):
                out.write(json.dumps({"text": text, "ids": expected}) + "\n")
        load, seconds = time_llmrun(args.llmrun, folder, lines)
        runs["llmrun"].append({"load_s": load, "mb_per_s": size / seconds})
        print(runs["llmrun"][-1], runs["tokenizers"][-1], flush=True)
    median = {name: {key: sorted(run[key] for run in values)[len(values) // 2]
                     for key in ("load_s", "mb_per_s")} for name, values in runs.items()}
    report = {"tokenizers": tokenizers.__version__, "machine": platform.processor() or
              platform.machine(), "vocabulary": json.loads(
                  (folder / "tokenizer.json").read_text())["added_tokens"][-1]["id"] + 1,
              "tokenizer_json_mb": round((folder / "tokenizer.json").stat().st_size / 1e6, 1),
              "documents": len(documents), "prose_mb": round(size, 2), "ids_equal": True,
              "times": "CPU seconds of one thread", "median": median,
              "ratio": median["llmrun"]["mb_per_s"] / median["tokenizers"]["mb_per_s"],
              "runs": runs}
    args.report.parent.mkdir(parents=True, exist_ok=True)
    args.report.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(median), "ratio", round(report["ratio"], 2))


if __name__ == "__main__":
    main()
