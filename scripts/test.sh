#!/usr/bin/env bash
# Installs what is missing, builds with warnings as errors, and runs all tests.
#   test.sh [PRESET] [CTEST ARGUMENTS...]     PRESET: ci (default), debug, asan, tsan
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset="${1:-ci}"
shift || true
scripts/install_dependencies.sh --test
# OpenAI's client, for the test of the server.
if [[ ! -x build/venv/bin/python ]] || ! build/venv/bin/python -c 'import openai' 2>/dev/null; then
  if ! { python3 -m venv build/venv && build/venv/bin/pip install -q openai; }; then
    echo "test.sh: OpenAI's Python client cannot be installed; THE TEST serve_openai IS SKIPPED" >&2
    rm -rf build/venv
  fi
fi
cmake --preset "$preset"
cmake --build --preset "$preset"
ctest --test-dir "build/$preset" --output-on-failure "$@"
