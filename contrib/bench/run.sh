#!/bin/bash
# Runs the benchmark: installs what it needs (on Debian and its kin), builds what is measured, makes one journaled ext4 in a
# file, measures, and leaves nothing behind but the results. Must be run as root. All arguments go to the benchmark:
#
#     contrib/bench/run.sh                                 everything, some twenty minutes
#     contrib/bench/run.sh -quick                          a look, some minutes
#     contrib/bench/run.sh -targets ext4,mailcryptfs -patterns 'deliver*,read-*' -rounds 7
#     contrib/bench/run.sh -mail                           Dovecot on them: deliveries, and IMAP clients
#     contrib/bench/run.sh -scale                          how it grows with users, messages and folders
#     contrib/bench/run.sh -list                           names of patterns and targets
#
# Environment:
#     IMAGE_DIR    where the file with the ext4 lies (default: /var/tmp); it should be the kind of disk that mail lies on
#     IMAGE_MIB    its size (default: 6144; 2048 with -quick)
#     MAILCRYPTFS  a mailcryptfs to measure instead of the one built from this tree
#     OTHER        another one to measure in the same rounds: the target mailcryptfs-other
#
# Everything happens in a mount and process namespace of its own: when this script ends, however it ends, the kernel ends
# the daemons and takes down the mounts and the loop device with them.
set -euo pipefail

GOCRYPTFS=v2.6.1 # the peer, beside the version of the distribution
GOCRYPTFS_FUSE=v2.8.0

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
	echo "run.sh: $*" >&2
	exit 1
}

wants() { # whether a target is among those asked for
	[[ -z $targets || ,$targets, == *,"$1"* ]]
}

install_packages() {
	local missing=() package
	local wanted=(e2fsprogs fuse3 gocryptfs)
	[[ " ${args[*]-} " =~ \ --?mail\  ]] && wanted+=(dovecot-core dovecot-imapd dovecot-lmtpd)
	for package in "${wanted[@]}"; do
		dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
	done
	((${#missing[@]} == 0)) && return
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

build() {
	(cd "$here" && go build -o "$work/bin/bench" . &&
		go build -o "$work/bin/loopback" github.com/hanwen/go-fuse/v2/example/loopback)
	if wants gocryptfs26; then
		# Built in its own module, with the dependencies that it was released with.
		local source
		source=$(cd "$here" && go mod download -json "github.com/rfjakob/gocryptfs/v2@$GOCRYPTFS" |
			sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
		[[ -n $source ]] || fail "cannot get gocryptfs $GOCRYPTFS"
		(cd "$source" && go build -mod=readonly -tags without_openssl \
			-ldflags "-X main.GitVersion=$GOCRYPTFS -X main.GitVersionFuse=$GOCRYPTFS_FUSE" -o "$work/bin/gocryptfs-2.6.1" .)
	fi
	[[ -n ${OTHER-} ]] && install -m 0755 "$OTHER" "$work/bin/mailcryptfs-other"
	if wants mailcryptfs; then
		if [[ -n ${MAILCRYPTFS-} ]]; then
			install -m 0755 "$MAILCRYPTFS" "$work/bin/mailcryptfs"
		else
			(cd "$here/../.." && go build -o "$work/bin/mailcryptfs" ./cmd/mailcryptfs)
		fi
	fi
}

make_image() {
	# Written in full: a sparse or preallocated file would make the first use of each block dear on the host's filesystem.
	dd if=/dev/zero of="$work/ext4.img" bs=1M count="$size" status=none
	mkfs.ext4 -q -F -N $((size * 200)) -J size=128 -E lazy_itable_init=0,lazy_journal_init=0 "$work/ext4.img"
}

inside() { # in the namespaces
	local device
	mount --make-rprivate /
	device=$(losetup --find --show --direct-io=on "$work/ext4.img" || losetup --find --show "$work/ext4.img")
	if ! mount "$device" "$work/disk"; then
		losetup --detach "$device"
		fail "cannot mount the ext4 image"
	fi
	losetup --detach "$device" # when it is unmounted
	mkdir "$work/disk/stores"
	chmod 0711 "$work" # the user ids of mail servers go through it
	mount -t tmpfs -o mode=0711 tmpfs "$work/run" # also because a guarded mount point could not be removed
	"$work/bin/bench" -lower "$work/disk/stores" -work "$work/run" -bin "$work/bin" -out "$out" \
		-command "$command" -revision "$revision" \
		-about "ext4, journaled, in a file of $size MiB on $(findmnt -no FSTYPE -T "$work"), loop device with direct I/O" "$@"
}

clean() {
	if [[ -n $inside ]]; then
		kill -KILL "$inside" 2>/dev/null || true
		wait "$inside" 2>/dev/null || true
	fi
	rm -rf --one-file-system "$work"
	# The benchmark removes its instance of the kernel's tracing itself, unless it was killed.
	rmdir "/sys/kernel/tracing/instances/${work##*/}" 2>/dev/null || true
}

if [[ ${1-} == --inside ]]; then
	shift
	inside "$@"
	exit
fi

inside= targets= out=$PWD/bench-results size=${IMAGE_MIB:-6144}
args=()
while (($#)); do
	case $1 in
	-targets | --targets) targets=$2 && args+=("$1" "$2") && shift ;;
	-targets=* | --targets=*) targets=${1#*=} && args+=("$1") ;;
	-out | --out) out=$(realpath -m "$2") && shift ;;
	-quick | --quick) size=${IMAGE_MIB:-2048} && args+=("$1") ;;
	-list | --list | -h | -help | --help) cd "$here" && exec go run . "$1" ;;
	*) args+=("$1") ;;
	esac
	shift
done
((EUID == 0)) || fail "must be run as root: it mounts filesystems and drops caches"

work=$(mktemp -d "${IMAGE_DIR:-/var/tmp}/mailcryptfs-bench.XXXXXX")
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p "$work"/{bin,disk,run} "$out"
command="contrib/bench/run.sh ${args[*]-}"
revision=$(git -C "$here" describe --always --dirty 2>/dev/null || echo unknown)
install_packages
build
make_image
export work out size command revision
# Should this shell die of whatever signal, unshare dies with it, and with unshare all that is inside.
# In the background, because the shell heeds a signal at once only while it waits.
setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc "$0" --inside "${args[@]}" &
inside=$!
wait "$inside"
inside=
echo "results are in $out"
