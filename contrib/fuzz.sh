#!/bin/bash
# Gives every parser of bytes that others control so many made-up inputs: each fuzz target in turn, and what it was given.
#
#     contrib/fuzz.sh                    a million inputs each, about half an hour on two processors
#     contrib/fuzz.sh 50000000           more
#     contrib/fuzz.sh 1000000 ./keyring/records ./fs/internal/names
#
# It ends with the first input that a parser does not bear: go test names the file that it is kept in, which then belongs to the
# tests. Inputs that reach new code are kept in the build cache (go clean -fuzzcache removes them) and are where the next run
# begins.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
inputs=${1:-1000000}
shift || true
packages=("$@")
if ((${#packages[@]} == 0)); then
	mapfile -t packages < <(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
targets=0
for package in "${packages[@]}"; do
	while read -r target; do
		began=$SECONDS
		if ! go test -run '^$' -fuzz "^$target\$" -fuzztime "${inputs}x" -fuzzminimizetime 1s "$package" >"$log" 2>&1 </dev/null; then
			cat "$log"
			exit 1
		fi
		printf '%-32s %-16s %12s inputs %5d s\n' "$package" "$target" "$inputs" "$((SECONDS - began))"
		targets=$((targets + 1))
	done < <(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' "$package"/*_test.go)
done
echo "$targets targets, $SECONDS seconds, nothing found"
