#!/usr/bin/env python3
"""Checks that the floors hold: who may include whom, no include cycles, file lengths, no CUDA outside its rooms.

usage: check_layout.py [ROOT]
One line per breach; exit status 1 if there is any. The floors are described in README.md, "How the code is laid out".
"""
import pathlib
import re
import sys

# A folder may include itself and the folders or headers listed here, nothing else.
MAY_INCLUDE = {
    "engine/core": [],
    "kernels": ["engine/core"],
    "engine/kv_cache": ["engine/core"],
    "engine/tokenizer": ["engine/core"],
    "engine/chat_template": ["engine/core"],
    "engine/weights": ["engine/core"],
    "engine/backend": ["engine/core"],
    "engine/backend/cpu": ["engine/backend", "engine/core", "kernels"],
    "engine/backend/cuda": ["engine/backend", "engine/core", "kernels"],
    "engine/sequence": ["engine/core", "engine/kv_cache"],
    "engine/models": ["engine/core", "engine/backend", "engine/weights"],
    "engine/scheduler": ["engine/core", "engine/kv_cache", "engine/sequence"],
    "engine/runner": ["engine/core", "engine/backend", "engine/kv_cache", "engine/models", "engine/sequence"],
    "engine/metrics": ["engine/core", "engine/sequence"],
    "engine": ["engine/*"],
    "tools": ["engine", "engine/core", "engine/sequence", "engine/metrics", "engine/tokenizer"],
    "tools/kernel_bench": ["engine/core", "engine/backend", "engine/backend/cpu", "engine/backend/cuda"],
}
MAX_LINES = 600
CUDA_HEADER = re.compile(r"(cuda|cublas|nccl|nvml|nvtx|cub/|cooperative_groups)")
INCLUDE = re.compile(r'\s*#\s*include\s*(["<])([^">]+)[">]')


def folder_of(path):
    return max((f for f in MAY_INCLUDE if path.startswith(f + "/")), key=len, default=None)


def allowed(path, header):
    source, target = folder_of(path), folder_of(header)
    rules = MAY_INCLUDE[source]
    return target is not None and (
        target == source or target in rules or header in rules
        or any(r.endswith("/*") and target.startswith(r[:-1]) for r in rules))


def includes_of(path, lines):
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match[1], match[2]


def find_cycles(graph):
    """One breach per include cycle, by depth-first search with colours."""
    state, stack, breaches = {}, [], []

    def visit(node):
        state[node] = "open"
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if state.get(target) == "open":
                breaches.append("include cycle: " + " -> ".join(stack[stack.index(target):] + [target]))
            elif target not in state:
                visit(target)
        stack.pop()
        state[node] = "done"

    for node in sorted(graph):
        if node not in state:
            visit(node)
    return breaches


def check(root):
    breaches, graph = [], {}
    for file in sorted(root.rglob("*")):
        path = file.relative_to(root).as_posix()
        if file.suffix not in {".h", ".cpp", ".cu", ".cuh"} or folder_of(path) is None:
            continue
        lines = file.read_text(encoding="utf-8").splitlines()
        if len(lines) > MAX_LINES:
            breaches.append(f"{path}: {len(lines)} lines, limit {MAX_LINES}")
        if file.suffix in {".h", ".cuh"} and not any(line.strip() == "#pragma once" for line in lines):
            breaches.append(f"{path}: no #pragma once")
        for number, quote, header in includes_of(path, lines):
            if quote == "<":
                if CUDA_HEADER.match(header) and folder_of(path) not in ("kernels", "engine/backend/cuda"):
                    breaches.append(f"{path}:{number}: CUDA header outside kernels/ and engine/backend/cuda/")
                continue
            graph.setdefault(path, set()).add(header)
            if header != "engine/core/version.h" and not (root / header).is_file():
                breaches.append(f"{path}:{number}: includes {header}, which does not exist (paths start at the root)")
            elif not allowed(path, header):
                breaches.append(f"{path}:{number}: {folder_of(path)} may not include {header}")
    return breaches + find_cycles(graph)


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    breaches = check(root)
    print("\n".join(breaches) or "layout ok")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
