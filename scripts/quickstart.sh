#!/usr/bin/env bash
# From a fresh checkout to completions: installs what is missing, builds, and answers the shipped prompts with
# the shipped demo model.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/install_dependencies.sh
cmake --preset release
cmake --build --preset release --target llmrun
echo
echo "\$ build/release/llmrun generate datasets/demo/prompts.jsonl" >&2
exec build/release/llmrun generate datasets/demo/prompts.jsonl
