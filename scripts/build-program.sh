#!/usr/bin/env bash
# Builds the Sluice program to target/deploy/sluice.so (SBPF v3).
#
#   scripts/build-program.sh [cargo options...]      for example: scripts/build-program.sh --features anchor-debug
#
# It uses `cargo build-sbf` where that is installed and works, and the project's own toolchain (toolchain/sbf) where it
# is not, and says which. A second run with nothing changed takes about a second.
#
#   SLUICE_SBF=auto|cargo-build-sbf|own     which toolchain to use (default: auto)
#   SLUICE_WORKSPACE=DIR                    build another copy of the workspace (default: the one this script lies in)
#   SBF_DEBIAN_MIRROR, SBF_DEBIAN_SECURITY_MIRROR     see toolchain/sbf/README.md
set -euo pipefail

say() { printf 'build-program: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=$(cd "${SLUICE_WORKSPACE:-$here}" && pwd)
manifest=$root/programs/sluice/Cargo.toml
program=$root/target/deploy/sluice.so
# A target folder of its own: the compiler is another one than the developer's, and sharing a folder would make each
# build throw away the other's work and wait for its lock.
target=$root/target/sbf
# Says which cargo build-sbf could not build the program, so that the next run does not try it again for nothing.
refused=$target/cargo-build-sbf-refused

[ -r "$manifest" ] || die "$manifest is missing: run this from a checkout of Sluice, or point SLUICE_WORKSPACE at one."
command -v cargo > /dev/null 2>&1 || die "cargo is missing: install Rust with rustup."
mkdir -p "$target" "${program%/*}"
cd "$root"

# Empty where cargo build-sbf is not installed or does not start.
build_sbf_version() { cargo build-sbf --version 2> /dev/null | tr -s '\n ' ' ' | sed 's/ *$//' || true; }

# The tool downloads its compiler on first use, so only a build shows whether it works. The features of the program do
# not need the newest Rust that the rest of the workspace asks for, and the tool's own compiler is older.
with_build_sbf() {
  cargo build-sbf --manifest-path "$manifest" --arch v3 --sbf-out-dir "$target/deploy" \
    -- --target-dir "$target" --ignore-rust-version "$@" >&2
}

with_own() { "$here/toolchain/sbf/build.sh" "$manifest" "$target" "$@" >&2; }

choice=${SLUICE_SBF:-auto}
case $choice in
  own) ;;
  cargo-build-sbf)
    version=$(build_sbf_version)
    [ -n "$version" ] ||
      die "SLUICE_SBF=cargo-build-sbf and cargo build-sbf is not installed: install the Solana command line tools, or unset SLUICE_SBF."
    with_build_sbf "$@" || die "cargo build-sbf failed: see above, or set SLUICE_SBF=own to use the project's own toolchain."
    ;;
  auto)
    version=$(build_sbf_version)
    if [ -z "$version" ]; then
      choice=own
    elif [ "$(cat "$refused" 2> /dev/null)" = "$version" ]; then
      say "cargo build-sbf $version could not build the program before; using the project's own toolchain (delete $refused to try it again)"
      choice=own
    elif with_build_sbf "$@"; then
      choice=cargo-build-sbf
    else
      say "cargo build-sbf is installed and could not build the program (see above); using the project's own toolchain"
      choice=own-instead
    fi
    ;;
  *) die "SLUICE_SBF is \"$choice\": set it to auto, cargo-build-sbf or own." ;;
esac

case $choice in
  cargo-build-sbf)
    used="cargo build-sbf $version"
    built=$target/deploy/sluice.so
    rm -f "$refused"
    ;;
  *)
    with_own "$@" || die "the program could not be built: see above."
    used="the project's own toolchain"
    built=$target/sbpf-solana/release/libsluice.so
    # Only now: where its own toolchain fails too, the fault is the program's and says nothing about cargo build-sbf.
    if [ "$choice" = own-instead ]; then printf '%s\n' "$version" > "$refused"; fi
    ;;
esac

# An ELF file, little-endian 64 bit, whose flags name the SBPF version.
[ -s "$built" ] || die "the build left no $built: does programs/sluice still make a cdylib called sluice?"
[ "$(od -An -tx1 -N4 "$built" | tr -d ' \n')" = 7f454c46 ] || die "$built is not an ELF file: delete $target and build again."
sbpf=$(od -An -tu4 -j48 -N4 "$built" | tr -d ' \n')
[ "$sbpf" = 3 ] || die "$built is SBPF v$sbpf and must be v3: delete $target and build again."

# Copied only when it changed, so that nothing rebuilds or redeploys for a file of a newer date; renamed into place, so
# that nobody loads half a program.
if cmp -s "$built" "$program"; then
  state=unchanged
else
  new=$(mktemp "$program.XXXXXX")
  trap 'rm -f "$new"' EXIT
  cp "$built" "$new"
  chmod 644 "$new"
  mv "$new" "$program"
  trap - EXIT
  state=new
fi
size=$(wc -c < "$program")
say "built with $used"
printf '%s: %s bytes, SBPF v3, %s\n' "$program" "$size" "$state"
