#!/usr/bin/env bash
# Installs the project's own SBF toolchain from Debian's package archive and the crate registry, without root.
#
#   toolchain/sbf/setup.sh            set up if needed; prints the folder on its last line
#   toolchain/sbf/setup.sh --path     prints the folder and does nothing else
#   toolchain/sbf/setup.sh --mirrors  prints the mirrors it would try and does nothing else
#
# The folder is ${XDG_CACHE_HOME:-$HOME/.cache}/sluice/sbf-toolchain. It is built next to its final place and renamed
# at the very end, so a folder of that name is always complete; a lock keeps two set-ups apart.
#
# SBF_DEBIAN_MIRROR, SBF_DEBIAN_SECURITY_MIRROR: Debian mirrors to use instead of those this machine's apt knows.
#
# README.md in this folder says what each part is for.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# The pins. The linker's checksum is the archive's sha256 and, as cargo builds it with --locked, covers the exact
# versions and checksums of everything it depends on.
linker_version=0.2.6
linker_sha256=fb77b853725e5cc2455815109cadb110ecb62965dac9e91511a0531c9ea61f22
# LLVM 22 cannot pass more than five arguments to a BPF function, or return a pair.
min_llvm=23
# The compiler the patch was made for; another one is tried, and named when the patch does not fit it.
patched_rustc=1.96
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
rust_suites=(bookworm bookworm-security)
llvm_suites=(sid)
needed_mb=3000

say() { printf 'sbf-toolchain: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

[ -n "${XDG_CACHE_HOME:-}" ] || [ -n "${HOME:-}" ] || die "neither HOME nor XDG_CACHE_HOME is set: set one of them, it says where the toolchain is kept."
parent=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
dir=$parent/sbf-toolchain
log=$parent/sbf-toolchain.log

# ---------------------------------------------------------------------------------------------------------- mirrors

# Lines "URI SUITE" for every package source this machine's apt is set up with. apt itself only lists the sources it
# has already fetched, so on a fresh machine the files are read as well: one-line *.list and deb822 *.sources.
apt_sources() {
  # shellcheck disable=SC2016 # apt's own placeholders, not the shell's
  apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null || true
  local file
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -r "$file" ] || continue
    # deb [options] URI SUITE COMPONENT...
    sed -n 's/^[[:space:]]*deb[[:space:]]\{1,\}\(\[[^]]*\][[:space:]]*\)\{0,1\}\([^[:space:]]\{1,\}\)[[:space:]]\{1,\}\([^[:space:]]\{1,\}\).*/\2 \3/p' "$file"
  done
  for file in /etc/apt/sources.list.d/*.sources; do
    [ -r "$file" ] || continue
    # Stanzas of "Field: value" lines with indented continuations; an empty line ends a stanza.
    awk '
      function flush(  u, s, i, j, nu, ns) {
        if (("types" in f) && f["types"] ~ /(^| )deb( |$)/ && tolower(f["enabled"]) !~ /^(no|false|0|off)$/) {
          nu = split(f["uris"], u, " "); ns = split(f["suites"], s, " ")
          for (i = 1; i <= nu; i++) for (j = 1; j <= ns; j++) print u[i], s[j]
        }
        delete f; name = ""
      }
      /^#/ { next }
      /^[[:space:]]*$/ { flush(); next }
      /^[[:space:]]/ { sub(/^[[:space:]]+/, ""); if (name != "") f[name] = f[name] " " $0; next }
      { name = tolower($0); sub(/:.*/, "", name); value = $0; sub(/^[^:]*:[[:space:]]*/, "", value)
        sub(/[[:space:]]+$/, "", value); f[name] = value }
      END { flush() }' "$file"
  done
}

# candidates main|security: the mirrors to try, likeliest first. A third party's repository in the list does no harm:
# it is not signed with Debian's keys, so apt refuses it and the next one is tried.
candidates() {
  apt_sources | awk -v want="$1" '
    $1 !~ /^https?:/ { next }
    { sub(/\/+$/, "", $1); kind = ($2 ~ /security|\/updates/) ? "security" : "main" }
    kind == want && !seen[$1]++ { if ($1 ~ /\/debian(-security)?$/) first[++n] = $1; else rest[++m] = $1 }
    END { for (i = 1; i <= n; i++) print first[i]; for (i = 1; i <= m; i++) print rest[i] }'
}

find_mirrors() {
  mains=() securities=()
  if [ -n "${SBF_DEBIAN_MIRROR:-}" ]; then mains=("${SBF_DEBIAN_MIRROR%/}"); fi
  if [ -n "${SBF_DEBIAN_SECURITY_MIRROR:-}" ]; then securities=("${SBF_DEBIAN_SECURITY_MIRROR%/}"); fi
  # Another distribution's mirrors do not carry Debian's packages.
  local id=""
  if [ -r /etc/os-release ]; then id=$(. /etc/os-release && printf '%s' "${ID:-}"); fi
  if [ "$id" = debian ]; then
    [ ${#mains[@]} -gt 0 ] || mapfile -t mains < <(candidates main)
    [ ${#securities[@]} -gt 0 ] || mapfile -t securities < <(candidates security)
  fi
}

case "${1:-}" in
  "") ;;
  --path) printf '%s\n' "$dir"; exit 0 ;;
  --mirrors) find_mirrors; printf 'main %s\n' ${mains[@]+"${mains[@]}"}; printf 'security %s\n' ${securities[@]+"${securities[@]}"}; exit 0 ;;
  *) die "unknown option $1: the only ones are --path and --mirrors." ;;
esac

# ----------------------------------------------------------------------------------------- ready already, or our turn

# What the toolchain is made from. A different recipe is a different toolchain, so it is set up anew.
recipe=$(cat "$here/setup.sh" "$here/std-solana.patch" "$here/sbpf-solana.json" | sha256sum | cut -d' ' -f1)
is_ready() { [ -r "$dir/recipe" ] && [ "$(cat "$dir/recipe")" = "$recipe" ]; }

if is_ready; then printf '%s\n' "$dir"; exit 0; fi

need() { command -v "$1" > /dev/null 2>&1 || die "$1 is missing: $2."; }
need flock "install util-linux"
mkdir -p "$parent" || die "$parent cannot be created: make it writable, or set XDG_CACHE_HOME to a folder that is."

# Held until this process ends. build.sh takes the same lock shared while it compiles, so a toolchain in use is not
# replaced under a running build.
exec 9> "$parent/sbf-toolchain.lock"
if ! flock -n 9; then
  say "another set-up or build holds $parent/sbf-toolchain.lock; waiting for it"
  flock 9
fi
if is_ready; then printf '%s\n' "$dir"; exit 0; fi

# -------------------------------------------------------------------------------------------------------- prerequisites

[ "$(uname -s)" = Linux ] && [ "$(uname -m)" = x86_64 ] ||
  die "this toolchain is for Linux on x86_64 and this is $(uname -s) on $(uname -m): install the Solana command line tools, whose cargo build-sbf is then used."
need apt-get "this toolchain is made from Debian packages, so use a Debian machine or container, or install cargo build-sbf"
need dpkg-deb "install dpkg, or use a Debian machine or container"
need patch "install the package patch"
need cargo "install Rust with rustup"
need cc "install the package gcc, which links the linker itself"
[ -r "$keyring" ] ||
  die "$keyring is missing: install the package debian-archive-keyring, the downloads are checked against it."
free_mb=$(df -Pm "$parent" | awk 'NR == 2 { print $4 }')
[ "${free_mb:-0}" -ge "$needed_mb" ] ||
  die "$parent has ${free_mb:-0} MB free and set-up needs $needed_mb: free some, or set XDG_CACHE_HOME to a folder on a larger disk."
find_mirrors
[ ${#mains[@]} -gt 0 ] ||
  die "no Debian mirror is known to this machine's apt: set SBF_DEBIAN_MIRROR to the address of one (it ends in /debian)."
[ ${#securities[@]} -gt 0 ] ||
  die "no Debian security mirror is known to this machine's apt: set SBF_DEBIAN_SECURITY_MIRROR to the address of one (it ends in /debian-security)."

# What an interrupted set-up left behind; nobody else can be using it, the lock is ours.
rm -rf "$parent"/sbf-toolchain.new.*
stage=$(mktemp -d "$parent/sbf-toolchain.new.XXXXXX")
trap 'rm -rf "$stage"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
: > "$log"
started=$SECONDS

# ------------------------------------------------------------------------------------------------------------- packages

# An apt of our own: its lists, its (empty) status file and its archive live under the stage, so nothing of this
# machine's packages matters or changes. What could make it accept unsigned packages is switched off, whatever this
# machine's configuration says.
apt_root() {
  apt=$stage/apt-$1
  mkdir -p "$apt/lists/partial" "$apt/archives/partial"
  : > "$apt/status"
  apt_options=(
    -qq -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
    -o Dir::State::Lists="$apt/lists" -o Dir::State::status="$apt/status"
    -o Dir::Cache="$apt" -o Dir::Cache::Archives="$apt/archives"
    -o APT::Architecture=amd64 -o APT::Default-Release= -o APT::Install-Recommends=false
    -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=true -o Acquire::Retries=3
    -o APT::Update::Error-Mode=any -o Acquire::AllowInsecureRepositories=false
    -o Acquire::AllowDowngradeToInsecureRepositories=false -o Acquire::AllowWeakRepositories=false
    -o APT::Get::AllowUnauthenticated=false
  )
}

# apt_update SUITE...: fetches the package lists from the first mirrors that serve these suites signed by Debian.
apt_update() {
  local main security suite
  for main in "${mains[@]}"; do
    for security in "${securities[@]}"; do
      for suite in "$@"; do
        case $suite in
          *-security) printf 'deb [arch=amd64 signed-by=%s] %s %s main\n' "$keyring" "$security" "$suite" ;;
          *) printf 'deb [arch=amd64 signed-by=%s] %s %s main\n' "$keyring" "$main" "$suite" ;;
        esac
      done > "$apt/sources.list"
      if apt-get "${apt_options[@]}" update >> "$log" 2>&1; then return 0; fi
    done
  done
  die "the package lists of $* could not be fetched and verified (tried ${mains[*]} and ${securities[*]}): check the network, or set SBF_DEBIAN_MIRROR and SBF_DEBIAN_SECURITY_MIRROR; details are in $log."
}

# apt_unpack FOLDER PACKAGE...: downloads the packages with all they depend on, and unpacks them.
apt_unpack() {
  local to=$1 deb
  shift
  mkdir -p "$to"
  apt-get "${apt_options[@]}" install -y --download-only "$@" >> "$log" 2>&1 ||
    die "the packages $* could not be downloaded and verified: check the network and try again; details are in $log."
  for deb in "$apt"/archives/*.deb; do
    dpkg-deb -x "$deb" "$to" || die "$deb could not be unpacked: is the disk full?"
  done
  rm -rf "$apt"
}

say "setting up in $dir (about 3 minutes; the log is $log)"

say "1/4 rustc with its std sources"
apt_root rust
apt_update "${rust_suites[@]}"
apt_unpack "$stage/rust" rustc-web rust-web-src

say "2/4 LLVM"
apt_root llvm
apt_update "${llvm_suites[@]}"
llvm=$(apt-cache "${apt_options[@]}" search --names-only '^libllvm[0-9]+$' 2>> "$log" | sed -n 's/^libllvm\([0-9]*\) .*/\1/p' |
  sort -n | awk -v min="$min_llvm" '$1 >= min { print; exit }')
[ -n "$llvm" ] || die "the mirror has no LLVM $min_llvm or newer: set SBF_DEBIAN_MIRROR to one that carries Debian unstable."
apt_unpack "$stage/llvm" "libllvm$llvm"

# ------------------------------------------------------------------------------------------------------------------ std

say "3/4 std for target_os = \"solana\""
sources=("$stage"/rust/usr/src/rustc-*/library)
[ -d "${sources[0]}" ] || die "the package rust-web-src holds no std sources where they used to be: this script needs an update."
mkdir -p "$stage/std" "$stage/bin"
cp -r "${sources[0]}" "$stage/std/library"
rm -rf "$stage/rust/usr/src"

# The wrappers find their toolchain from their own path, so the folder can be renamed.
cat > "$stage/bin/rustc" <<'WRAPPER'
#!/bin/sh
root=${0%/bin/rustc}
export LD_LIBRARY_PATH="$root/rust/usr/lib/x86_64-linux-gnu"
exec "$root/rust/usr/bin/rustc" "$@"
WRAPPER
# The linker runs on the C library that came with LLVM, through that library's own loader: Debian unstable's LLVM
# needs a newer one than this machine has.
cat > "$stage/bin/link" <<'WRAPPER'
#!/bin/sh
root=${0%/bin/link}
lib=$root/llvm/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH="$lib"
exec "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$root/bin/sbpf-linker" "$@"
WRAPPER
chmod +x "$stage/bin/rustc" "$stage/bin/link"
rustc_version=$("$stage/bin/rustc" -V 2>> "$log") || die "the unpacked rustc does not run on this machine: details are in $log."

patch --silent --batch --fuzz=2 -d "$stage/std/library" -p1 < "$here/std-solana.patch" >> "$log" 2>&1 ||
  die "std-solana.patch is for rustc $patched_rustc and does not fit Debian's $rustc_version: it needs an update; details are in $log."
# rustc's "C" ABI for BPF returns 128-bit integers through memory; LLVM's calls to these functions expect registers.
for file in mul udiv sdiv shift addsub; do
  file=$stage/std/library/compiler-builtins/compiler-builtins/src/int/$file.rs
  if [ -f "$file" ]; then sed -i 's/pub extern "C" fn/pub extern "unadjusted" fn/' "$file"; fi
  grep -qs 'pub extern "unadjusted" fn' "$file" ||
    die "$rustc_version keeps its 128-bit arithmetic elsewhere, and without the fix for it programs corrupt memory: this script needs an update."
done

# --------------------------------------------------------------------------------------------------------------- linker

say "4/4 sbpf-linker $linker_version"
# `cargo info` is what downloads a crate without building it, so that it is checked before any of it runs.
cargo info --quiet "sbpf-linker@$linker_version" >> "$log" 2>&1 ||
  die "the crate sbpf-linker $linker_version could not be downloaded: check the network and try again; details are in $log."
checked=0
for crate in "${CARGO_HOME:-$HOME/.cargo}"/registry/cache/*/"sbpf-linker-$linker_version.crate"; do
  [ -r "$crate" ] || continue
  [ "$(sha256sum < "$crate" | cut -d' ' -f1)" = "$linker_sha256" ] ||
    die "$crate is not the archive this script was written for: delete it and try again, and if it comes back the registry's copy was tampered with."
  checked=1
done
[ "$checked" = 1 ] || die "cargo kept no archive of sbpf-linker $linker_version to check: set CARGO_HOME to the folder cargo uses."
env -u RUSTC -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u CARGO_BUILD_TARGET CARGO_TARGET_DIR="$stage/linker" \
  cargo install --quiet --locked --root "$stage" "sbpf-linker@$linker_version" >> "$log" 2>&1 ||
  die "sbpf-linker $linker_version could not be built: details are in $log."
rm -rf "$stage/linker" "$stage/.crates.toml" "$stage/.crates2.json"
"$stage/bin/link" --version >> "$log" 2>&1 || die "the linker does not run on this machine: details are in $log."

# ---------------------------------------------------------------------------------------------------------------- ready

cp "$here/sbpf-solana.json" "$stage/"
printf '%s\n' "$recipe" > "$stage/recipe"
rm -rf "$dir"
mv "$stage" "$dir"
say "ready in $((SECONDS - started)) s: $rustc_version, LLVM $llvm, sbpf-linker $linker_version, $(du -sm "$dir" | cut -f1) MB"
printf '%s\n' "$dir"
