#!/usr/bin/env bash
# The npm package's own tests, then the published x402 packages through a relayer on a local validator. The binaries are
# those of `make everything`; SLUICE_BIN and SLUICE_PROGRAM name others.
set -euo pipefail
cd "$(dirname "$0")/../.."

for command in node npm; do
  command -v "$command" > /dev/null || { echo "$command is missing: Node 20.18 or newer is needed" >&2; exit 1; }
done

install() { npm ci --prefix "$1" --no-audit --no-fund --loglevel=error; }

install clients/typescript
npm run --prefix clients/typescript --silent lint
npm test --prefix clients/typescript --silent

install tests/x402
install tests/x402/v1
npm run --prefix tests/x402 --silent lint
cd tests/x402
# Each file starts a validator of its own: one after the other.
exec node --test --test-concurrency=1 --test-force-exit --test-reporter=spec src/*.test.mjs
