#!/usr/bin/env bash
# Formats the C++ sources in place; --check only tells which differ. clang-format 14: releases format differently.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tool=""
for candidate in clang-format-14 clang-format; do
  if command -v "$candidate" >/dev/null && "$candidate" --version | grep -q 'version 14\.'; then
    tool="$candidate"
    break
  fi
done
[[ -n "$tool" ]] || { echo "format.sh: clang-format 14 is not installed (package clang-format-14)" >&2; exit 1; }

mode=(-i)
[[ "${1:-}" == "--check" ]] && mode=(--dry-run --Werror)
git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs "$tool" "${mode[@]}"
