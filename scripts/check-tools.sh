#!/usr/bin/env bash
# Says in one go what is missing on this machine, and how to get it. Installs nothing.
set -euo pipefail

missing=()
packages=()
need() { # COMMAND PACKAGE WHY
  command -v "$1" > /dev/null 2>&1 || { missing+=("$1 ($3)"); packages+=("$2"); }
}
need cc build-essential "C compiler: SQLite and OpenSSL are built from source"
need make build-essential "builds OpenSSL"
need perl perl "configures OpenSSL"
if ! command -v cargo-build-sbf > /dev/null 2>&1; then
  need apt-get apt "fetches the toolchain's parts from Debian"
  need dpkg dpkg "unpacks them"
  need patch patch "patches the standard library for the SVM"
fi
if ! command -v cargo > /dev/null 2>&1; then
  echo "cargo is missing: install rustup, then run this again" >&2
  exit 1
fi
want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
have=$(rustc --version | awk '{print $2}')
if [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -1)" != "$want" ]; then
  echo "rustc $have is too old: Sluice needs $want or newer (rustup update)" >&2
  exit 1
fi
if [ ${#missing[@]} -gt 0 ]; then
  printf 'missing: %s\n' "${missing[@]}" >&2
  echo "on Debian and Ubuntu: apt-get install $(printf '%s\n' "${packages[@]}" | sort -u | tr '\n' ' ')" >&2
  exit 1
fi
