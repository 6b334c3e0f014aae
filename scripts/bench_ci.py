#!/usr/bin/env python3
"""Measures a build of llmrun against another one and fails on a significant drop only.

usage: bench_ci.py --new BINARY (--base BINARY | --baseline FOLDER | --store) [--suite smoke|full] [--workload NAME ...]
                   [--pairs 40] [--output FOLDER]

With --base both builds run in turn on this machine, base first in one pair and last in the next, and each pair gives one ratio:
what slows the machine for longer than a run meets both. --store only measures, and leaves its results in --output for a later
--baseline, which compares with them; that needs a quiet machine of its own. FOLDER gets the runs as JSON lines, each comparison
as JSON and as a page, and comment.md. Exit status: 0; 1 on a significant drop and nothing else; 2 when a build cannot be run;
3 when something cannot be compared.
"""
import argparse
import pathlib
import subprocess
import sys

# Name -> flags of `llmrun throughput`. Runs are short; there are many of them.
SUITES = {
    "smoke": {"demo-32x64-64": ["--device", "cpu", "--num-prompts", "32", "--input-len", "64", "--output-len", "64"]},
    "full": {"qwen2-7b-25x64-128": ["-m", "shape:qwen2-7b", "--num-prompts", "25", "--input-len", "64", "--output-len", "128"],
             "llama3-8b-64x512-128": ["-m", "shape:llama3-8b", "--num-prompts", "64", "--input-len", "512", "--output-len", "128"]},
}
SEVERITY = [0, 1, 3]  # exit codes of `llmrun compare`, from best to worst


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--new", required=True, help="the build to judge")
    against = parser.add_mutually_exclusive_group(required=True)
    against.add_argument("--base", help="the build to judge it by, run in turn with it")
    against.add_argument("--baseline", type=pathlib.Path, help="folder of an earlier run's results to judge it by")
    against.add_argument("--store", action="store_true", help="only measure, for a later --baseline")
    parser.add_argument("--suite", choices=SUITES, default="smoke")
    parser.add_argument("--workload", action="append", choices=[name for suite in SUITES.values() for name in suite],
                        help="only this one of the suite; may be given again")
    parser.add_argument("--pairs", type=int, default=40, help="runs of each build (at least 6)")
    parser.add_argument("--fail-below", default="0.97")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("bench-ci"))
    parser.add_argument("--new-flags", default="", help="more flags for the new build, as --debug-slowdown=0.1")
    arguments = parser.parse_args()
    if arguments.pairs < 6:
        parser.error("--pairs must be at least 6: fewer give no 95 % interval")
    suite = SUITES[arguments.suite]
    if foreign := set(arguments.workload or ()) - suite.keys():
        parser.error(f"the suite {arguments.suite} has no {', '.join(foreign)}, but {', '.join(suite)}")
    arguments.workloads = {name: flags for name, flags in suite.items() if not arguments.workload or name in arguments.workload}
    if arguments.baseline:
        missing = [name for name in arguments.workloads if not (arguments.baseline / f"new-{name}.jsonl").is_file()]
        if missing:
            parser.error(f"{arguments.baseline} has no results of {', '.join(missing)}; --store --output {arguments.baseline} makes them")
    return arguments


def fail(message):
    print(f"bench_ci.py: {message}", file=sys.stderr)
    sys.exit(2)


def run(command):
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        fail(f"{command[0]}: {error.strerror}")


def measure(binary, flags):
    """One run: a line of JSON."""
    command = [binary, "throughput", "--quiet", "--backend", "paged", "--repeats", "1", "--output", "jsonl"] + flags
    result = run(command)
    if result.returncode not in (0, 1) or not result.stdout:  # 1: INVALID, which compare tells
        fail(f"{' '.join(command)} failed with exit code {result.returncode}")
    return result.stdout


def run_suite(arguments):
    """The result files, base and new, of each workload."""
    files = []
    for name, flags in arguments.workloads.items():
        new_flags = flags + arguments.new_flags.split()
        sides = {"new": (arguments.new, new_flags)}
        if arguments.base:
            sides["base"] = (arguments.base, flags)
        lines = {side: [] for side in sides}
        for pair in range(arguments.pairs):
            for side in sorted(sides, reverse=pair % 2 == 1):
                lines[side].append(measure(*sides[side]))
        paths = {side: arguments.output / f"{side}-{name}.jsonl" for side in sides}
        for side, path in paths.items():
            path.write_text("".join(lines[side]), encoding="utf-8")
        if not arguments.store:
            files.append((paths.get("base") or arguments.baseline / f"new-{name}.jsonl", paths["new"]))
    return files


def compare(arguments, base, new):
    """The comparison as Markdown and its exit code; as JSON and as a page it goes to the output."""
    path = arguments.output / f"compare-{new.stem.removeprefix('new-')}"
    command = [arguments.new, "compare", str(base), str(new), "--fail-below", arguments.fail_below, "--output", "md",
               "--output-json", f"{path}.json", "--html", f"{path}.html"]
    if arguments.base:
        command.append("--paired")
    result = run(command)
    return result.stdout, result.returncode


def main():
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    markdown, codes = [], [0]
    for base, new in run_suite(arguments):
        text, code = compare(arguments, base, new)
        markdown.append(text)
        codes.append(code)
    if arguments.store:
        return 0
    (arguments.output / "comment.md").write_text("\n".join(markdown), encoding="utf-8")
    print("\n".join(markdown))
    unknown = [code for code in codes if code not in SEVERITY]
    return unknown[0] if unknown else max(codes, key=SEVERITY.index)


if __name__ == "__main__":
    sys.exit(main())
