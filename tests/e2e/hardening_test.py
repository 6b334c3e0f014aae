#!/usr/bin/env python3
"""Reliability rule S42: what the program is compiled and linked with.

usage: hardening_test.py LLMRUN COMPILE_COMMANDS FLAG...
COMPILE_COMMANDS: compile_commands.json of the build. FLAG: what each source must be compiled with.
"""
import json
import pathlib
import subprocess
import sys

program, commands, *flags = sys.argv[1:]
breaches = []

entries = json.loads(pathlib.Path(commands).read_text())
sources = [entry for entry in entries if entry["file"].endswith((".cpp", ".cxx"))]  # .cxx: the files of a folder as one
for target in ("llmrun_core", "llmrun_kernels_cpu", "llmrun_top", "llmrun_tools"):
    assert any(f"/{target}.dir/" in entry["command"] for entry in sources), f"no source of {target} in the list"
for entry in sources:
    missing = [flag for flag in flags if flag not in entry["command"].split()]
    if missing:
        breaches.append(f"{entry['file']}: compiled without {' '.join(missing)}")

elf = subprocess.run(["readelf", "-hldW", program], check=True, capture_output=True, text=True).stdout
lines = [line.split() for line in elf.splitlines()]
if not any(line[:2] == ["Type:", "DYN"] for line in lines):
    breaches.append("the program is not position-independent")
if not any(line[:1] == ["GNU_RELRO"] for line in lines) or "BIND_NOW" not in elf:
    breaches.append("relocations stay writable")
if not any(line[:1] == ["GNU_STACK"] and "E" not in line[6] for line in lines):
    breaches.append("the stack is executable")

print("\n".join(breaches) or f"hardened: {len(sources)} sources with {' '.join(flags)}")
sys.exit(1 if breaches else 0)
