#!/usr/bin/env bash
# Deploys FILE to the server at RELIGHT_URL.  What the action runs; any other CI may, where `relight` is installed.
set -euo pipefail

for name in RELIGHT_URL RELIGHT_TOKEN FILE; do
    [ -n "${!name:-}" ] || { echo "cannot deploy: $name is not set; set it" >&2; exit 2; }
done

words=(deploy "$FILE" --environment "${ENVIRONMENT:-main}" --canary "${CANARY:-100}" --json)
[ -z "${GITHUB_SHA:-}" ] || words+=(--commit "$GITHUB_SHA")
[ -z "${GITHUB_REF_NAME:-}" ] || words+=(--tag "branch=$GITHUB_REF_NAME")
[ -z "${GITHUB_RUN_ID:-}" ] || words+=(--tag "run=$GITHUB_RUN_ID")

said=$(relight "${words[@]}")
echo "$said"
if [ -n "${GITHUB_OUTPUT:-}" ]; then
    python3 -c 'import json, sys; print("version=" + json.load(sys.stdin)["apps"][0]["version"])' <<<"$said" >>"$GITHUB_OUTPUT"
fi
