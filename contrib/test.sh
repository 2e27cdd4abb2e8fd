#!/bin/bash
# Installs what the checks need on Debian 12 (and its kin) and runs all of them. Run it as root from a checkout, with or
# without git metadata:
#
#     sudo contrib/test.sh              everything, some minutes on two cores
#     sudo contrib/test.sh ./keyring/…  only Go tests, of these packages
#
# It ends with one line that says whether everything passed. A test that was skipped counts as failed, unless
# contrib/lib/skips.allow names it with a reason. Mounts, processes and files of the tests are gone when it ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=lib/toolchain.sh
. contrib/lib/toolchain.sh

began=$SECONDS
failed=()
work=

step() { printf '\n== %s\n' "$*"; }
fail() {
	printf '\ntest.sh: %s\n' "$*" >&2
	exit 1
}
check() { # name, command...
	local name=$1
	shift
	step "$name"
	"$@" || failed+=("$name")
}
cleanup() { [ -z "$work" ] || rm -rf "$work"; }
trap cleanup EXIT

install_needs() {
	step "Installing what the checks need"
	command -v apt-get >/dev/null || fail "this script installs Debian packages; elsewhere install what it names and use go test ./..."
	# A C compiler for the race detector and the PAM module, the second reader of the format, a delivery agent, a shell linter.
	need_packages gcc libc6-dev make python3 python3-cryptography procmail shellcheck groff-base zbar-tools php-cli
	local script
	for script in integration/*/install.sh; do
		[ -e "$script" ] || continue
		echo "$script"
		"$script"
	done
	find_go || exit 1
	go version
	go mod download
	[ -c /dev/fuse ] || modprobe fuse 2>/dev/null || true
	[ -c /dev/fuse ] || fail "there is no /dev/fuse"
}

check_format() {
	local files
	files=$(gofmt -l cmd fs keyring pam integration contrib)
	[ -z "$files" ] || {
		printf 'not formatted: %s\n' "$files"
		return 1
	}
}

check_vet() { go vet ./...; }
check_static() { go tool staticcheck ./...; }
check_bench() { (cd contrib/bench && go vet ./... && go test ./...); } # a module of its own

check_shell() {
	local scripts
	mapfile -t scripts < <(find contrib integration .ci pam \( -name '*.sh' -o -path .ci/run \) -type f)
	shellcheck -x -S warning -e SC1007 -P SCRIPTDIR "${scripts[@]}"
}

check_manuals() {
	local page problems
	for page in contrib/man/*.[1-8]; do
		problems=$(groff -man -Tutf8 -ww "$page" 2>&1 >/dev/null | head -n 5)
		[ -z "$problems" ] || {
			echo "$page: $problems"
			return 1
		}
	done
}

# check_go runs the Go tests (seeds of the fuzz targets included) under the race detector, the daemon of the integration
# tests too, and has judge.py read what they did.
check_go() {
	local status=0
	# A program under the race detector waits a second at its end, unless it is told not to; verbs run thousands of times.
	HARNESS_RACE=1 GORACE=atexit_sleep_ms=0 go test -race -count=1 -timeout 30m -json "$@" >"$work/tests.json" 2>"$work/tests.err" || status=$?
	python3 contrib/lib/judge.py contrib/lib/skips.allow "$work/tests.json" "$work/summary" || {
		cat "$work/tests.err"
		return 1
	}
	[ "$status" = 0 ] || {
		cat "$work/tests.err"
		return "$status"
	}
}

leftovers() { # what the tests may have left on the machine
	grep -E 'fuse\.mailcryptfs|mailcryptfs-keyring' /proc/self/mountinfo | sort || true
}

[ "$(id -u)" = 0 ] || fail "the tests mount file systems: sudo contrib/test.sh"
work=$(mktemp -d)
install_needs
before=$(leftovers)
if [ $# -eq 0 ]; then
	check "gofmt" check_format
	check "go vet" check_vet
	check "staticcheck" check_static
	check "benchmark" check_bench
	check "shellcheck" check_shell
	check "manual pages" check_manuals
	set -- ./...
fi
check "go test -race $*" check_go "$@"
[ "$(leftovers)" = "$before" ] || failed+=("mounts were left behind: $(leftovers)")

step "$((SECONDS - began)) seconds"
if [ ${#failed[@]} -gt 0 ]; then
	printf 'FAILED: %s\n' "${failed[@]}"
	exit 1
fi
echo "ALL CHECKS PASSED: $(cat "$work/summary")"
