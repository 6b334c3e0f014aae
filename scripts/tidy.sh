#!/usr/bin/env bash
# Runs clang-tidy over the host code, with the compile commands of a configured preset.
#   tidy.sh [PRESET] [FILES...]     default: debug, which compiles each file by itself, and all .cpp files of engine/, kernels/ and tools/
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset="${1:-debug}"
shift || true
[[ -f "build/$preset/compile_commands.json" ]] || cmake --preset "$preset" >/dev/null
files=("$@")
[[ ${#files[@]} -gt 0 ]] || mapfile -t files < <(git ls-files 'engine/*.cpp' 'kernels/*.cpp' 'tools/*.cpp')
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 1 clang-tidy -p "build/$preset" --quiet
