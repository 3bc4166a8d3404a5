#!/usr/bin/env bash
# Builds the fuzz targets and runs each for some seconds, one after the other.
#
#   fuzz/run.sh SECONDS [TARGET...]      for example: fuzz/run.sh 600 split
#
# Plain cargo on the stable compiler, with the flags that `cargo fuzz run -s none` would set: nothing is installed, and
# all it needs is a C++ compiler for libFuzzer. What is interesting is kept in fuzz/corpus, what fails in fuzz/artifacts,
# and how to repeat it is printed. The folder is laid out as cargo-fuzz wants it, so where that is installed,
# `cargo fuzz run -s none TARGET` does the same.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?usage: fuzz/run.sh SECONDS [TARGET...]}
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

if ! command -v c++ > /dev/null 2>&1; then
  echo "fuzz: a C++ compiler is missing (libFuzzer is C++); on Debian and Ubuntu: apt-get install build-essential" >&2
  exit 1
fi

# The coverage that libFuzzer steers by. With a target triple the flags reach the targets and not the build scripts,
# which would not link with them.
flags=(
  --cfg fuzzing
  -Cpasses=sancov-module
  -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares
  -Cllvm-args=-simplifycfg-branch-fold-threshold=0
  -Ccodegen-units=1
)
triple=$(rustc -vV | sed -n 's/^host: //p')
out=${CARGO_TARGET_DIR:-target/fuzz}
RUSTFLAGS="${flags[*]}" cargo build --locked --release --quiet \
  --manifest-path fuzz/Cargo.toml --target "$triple" --target-dir "$out"

for target in "${targets[@]}"; do
  run=$out/$triple/release/$target
  found=fuzz/artifacts/$target
  folders=("fuzz/corpus/$target")
  mkdir -p "$found" "${folders[0]}"
  # libFuzzer writes what it learns to the first folder, and only reads the others.
  if [ -d "fuzz/seeds/$target" ]; then folders+=("fuzz/seeds/$target"); fi
  log=$found/last.log
  if ! "$run" "${folders[@]}" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
    -artifact_prefix="$found/" > "$log" 2>&1; then
    # The panic's message stands above its long backtrace.
    grep -A 3 'panicked at' "$log" >&2 || tail -n 20 "$log" >&2
    file=$(sed -n 's/.*Test unit written to //p' "$log" | head -1)
    echo "fuzz: $target failed; repeat it with: $run ${file:-(see $log)}" >&2
    exit 1
  fi
  echo "fuzz: $target, $(sed -n 's/^Done //p' "$log")"
done
