#!/usr/bin/env bash
# Installs what llmrun needs to build, from Debian 12 or Ubuntu 24.04 packages; does nothing when all is there.
#   install_dependencies.sh          to build and run
#   install_dependencies.sh --test   also what the tests use
set -euo pipefail

packages=(g++ cmake ninja-build pkg-config git ca-certificates
          libcli11-dev nlohmann-json3-dev libfmt-dev libpcre2-dev libutf8proc-dev libsentencepiece-dev
          libboost-dev libssl-dev)
if [[ "${1:-}" == "--test" ]]; then
  packages+=(doctest-dev python3 python3-venv ccache clang-format-14 clang-tidy-14)
fi

missing=()
for package in "${packages[@]}"; do
  [[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "install_dependencies.sh: no apt-get here; install the equivalents of: ${missing[*]}" >&2
  exit 1
fi
sudo=()
if [[ $EUID -ne 0 ]]; then
  command -v sudo >/dev/null || { echo "install_dependencies.sh: run as root to install: ${missing[*]}" >&2; exit 1; }
  sudo=(sudo)
fi
echo "Installing: ${missing[*]}" >&2
"${sudo[@]}" apt-get update -qq >&2
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
