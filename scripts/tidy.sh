#!/usr/bin/env bash
# Runs clang-tidy 14 over the host code of engine/, kernels/ and tools/, by the compile commands of a configured preset. A preset that
# unites the files of a folder (all but debug and tsan) is checked folder by folder, which parses heavy headers once a folder.
#   tidy.sh [PRESET] [PATTERN]      default: cpu-only, and everything; PATTERN takes what matches it, e.g. engine/scheduler
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset="${1:-cpu-only}"
commands="build/$preset/compile_commands.json"
tidy="$(command -v clang-tidy-14 || command -v clang-tidy)" || { echo "tidy.sh: no clang-tidy (scripts/install_dependencies.sh --test)" >&2; exit 1; }
[[ -f "$commands" ]] || cmake --preset "$preset" >/dev/null
# Generated sources have to be there.
cmake --build --preset "$preset" --target llmrun_git_commit >/dev/null
mapfile -t files < <(sed -n 's/^  "file": "\(.*\.c[px]*\)",\{0,1\}$/\1/p' "$commands" | grep -v /tests/ | grep -e "${2:-}")
[[ ${#files[@]} -gt 0 ]] || { echo "tidy.sh: no file of the preset '$preset' matches '${2:-}'" >&2; exit 1; }
# GCC's warnings, which are errors in some presets, are GCC's matter.
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 1 "$tidy" -p "build/$preset" --quiet --extra-arg=-Wno-error 2>&1 | sed "/warnings generated\.$/d"
