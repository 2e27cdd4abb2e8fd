# Sourced by quickstart.sh and test.sh: finds a Go toolchain that can build this tree, and installs Debian packages.
# shellcheck shell=bash

# find_go puts a usable go into PATH, or explains what to do and fails. It does not depend on GOFLAGS.
find_go() {
	local wanted have dir
	wanted=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
	unset GOFLAGS
	export GOFLAGS=-buildvcs=false # the checkout may have no git metadata, or belong to somebody else
	for dir in "" /usr/local/go/bin /usr/lib/go/bin "${SUDO_USER:+/home/$SUDO_USER/go/bin}" /usr/lib/go-*/bin; do
		[ -z "$dir" ] || [ -x "$dir/go" ] || continue
		# In this directory go.mod decides: a toolchain that may fetch the wanted one reports that one.
		have=$(PATH="${dir:+$dir:}$PATH" go version 2>/dev/null | sed 's/^go version go\([0-9]*\.[0-9]*\).*/\1/') || continue
		[ -n "$have" ] || continue
		if [ "$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n 1)" = "$wanted" ]; then
			PATH="${dir:+$dir:}$PATH"
			export PATH
			# What ciphers and hashes leave on the heap is erased where the toolchain can do that (keyring/secret).
			if GOEXPERIMENT=runtimesecret go env GOVERSION >/dev/null 2>&1; then
				export GOEXPERIMENT=runtimesecret
			fi
			return 0
		fi
	done
	cat >&2 <<-EXPLAIN
		mailcryptfs needs Go $wanted or newer to build; none was found in PATH or in /usr/local/go/bin.
		The golang package of Debian 12 is older. Unpack a newer toolchain from the Go project into
		/usr/local/go (its archive is called go$wanted.linux-$(dpkg --print-architecture 2>/dev/null || uname -m).tar.gz), then run this again.
	EXPLAIN
	return 1
}

# need_packages installs those of the named Debian packages that are missing.
need_packages() {
	local p missing=()
	for p; do
		dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	echo "installing: ${missing[*]}"
	local patient=(-o DPkg::Lock::Timeout=600 -o Acquire::Retries=5)
	apt-get "${patient[@]}" -qq update
	DEBIAN_FRONTEND=noninteractive apt-get "${patient[@]}" -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
}
