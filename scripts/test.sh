#!/usr/bin/env bash
# Installs what is missing, builds with warnings as errors, and runs all tests.
#   test.sh [PRESET] [CTEST ARGUMENTS...]     PRESET: ci (default), debug, asan, tsan
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset="${1:-ci}"
shift || true
scripts/install_dependencies.sh --test
cmake --preset "$preset"
cmake --build --preset "$preset"
ctest --test-dir "build/$preset" --output-on-failure "$@"
