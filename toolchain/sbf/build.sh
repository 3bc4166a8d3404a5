#!/usr/bin/env bash
# Builds one program crate to SBPF v3 with the project's own toolchain, setting that up first where needed.
#
#   toolchain/sbf/build.sh MANIFEST TARGET_DIR [cargo options...]
#
# The program lands in TARGET_DIR/sbpf-solana/release/libNAME.so. scripts/build-program.sh is the way to build Sluice's own.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ $# -lt 2 ]; then
  echo "build.sh: give the program's Cargo.toml and a target folder: build.sh MANIFEST TARGET_DIR [cargo options...]" >&2
  exit 2
fi
manifest=$1
target=$2
shift 2

"$here/setup.sh" > /dev/null
dir=$("$here/setup.sh" --path)
# Shared: builds run side by side, a set-up waits for them.
exec 9>> "${dir%/*}/sbf-toolchain.lock"
flock -s 9
recipe=$(cat "$dir/recipe")

# cargo does not see that std's sources changed, so what another toolchain compiled has to go.
if [ -d "$target/sbpf-solana" ] && [ "$(cat "$target/sbf-recipe" 2> /dev/null)" != "$recipe" ]; then
  rm -rf "$target/sbpf-solana"
fi
mkdir -p "$target"
printf '%s\n' "$recipe" > "$target/sbf-recipe"

flags=(
  -C "linker=$dir/bin/link"
  -C panic=abort
  -C relocation-model=static
  # The SVM runs one thread: atomics become plain loads and stores.
  -C passes=lower-atomic
  # v0's frames have gaps between them, which breaks functions with more than five arguments.
  -C link-arg=--arch=v3
  -C link-arg=--llvm-args=-bpf-stack-size=4096
  # The SVM reads and writes at any address. Without this every key, which has alignment 1, is copied and
  # compared byte by byte: a third more code.
  -C link-arg=--cpu-features=+allows-misaligned-mem-access
  # Left alone, the linker also writes target/deploy/NAME.so under the current folder, over what is there.
  -C link-arg=--deploy=false
  # Panic messages hold paths: the same sources give the same program wherever they lie.
  "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
  "--remap-path-prefix=$dir/std=/std"
)
# Encoded flags may hold spaces, and win over RUSTFLAGS and over any configuration file.
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS
# The first two let a released compiler build std; the third says where std's patched sources lie.
export RUSTC="$dir/bin/rustc" RUSTC_BOOTSTRAP=1 RUSTC_BOOTSTRAP_SYNTHETIC_TARGET=1
export __CARGO_TESTS_ONLY_SRC_ROOT="$dir/std/library"
unset RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER CARGO_BUILD_TARGET CARGO_TARGET_DIR

# The lock stays with this process (cargo inherits it), so it is held until the build ends.
exec cargo build --release --manifest-path "$manifest" --target-dir "$target" --target "$dir/sbpf-solana.json" \
  -Z json-target-spec -Z build-std=std,panic_abort -Z build-std-features= "$@"
