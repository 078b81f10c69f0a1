#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# From a fresh checkout to a running exporter, or to the result of all tests.
# What is right already is not touched: the second time it is quick and needs no network.
set -eu

usage() {
    cat <<'END'
Usage: sudo ./quickstart.sh [run [ARGUMENT...]]
       sudo ./quickstart.sh test
       ./quickstart.sh --help

run   install what is missing, build, and run netatop-exporter with the arguments; with none, it
      serves metrics on 127.0.0.1:10048 until Ctrl-C. `run --help` tells the arguments.
test  install what the tests need too, and run lint and all tests.
END
}

# Standard output belongs to the program.
say() {
    printf 'quickstart: %s\n' "$*" >&2
}

die() {
    say "$@"
    exit 1
}

# need PACKAGE COMMAND...: the package is missing if the command fails.
need() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

need_for_run() {
    need clang command -v clang
    need libbpf-dev test -e /usr/include/bpf/bpf_helpers.h
    need linux-libc-dev test -e /usr/include/linux/bpf.h
    need make command -v make
    need python3 test -x /usr/bin/python3
    need python3-venv /usr/bin/python3 -c 'import ensurepip'
}

need_for_test() {
    need atop command -v atop
    need bpftool command -v bpftool
    need buildah command -v buildah
    need busybox-static command -v busybox
    need chromium command -v chromium
    need curl command -v curl
    need debhelper command -v dh
    need dh-python command -v dh_python3
    need ethtool command -v ethtool
    need fonts-inter test -d /usr/share/fonts/opentype/inter
    need iproute2 command -v ip
    need kmod command -v depmod
    need libcap2-bin command -v capsh
    need lintian command -v lintian
    need lz4 command -v lz4
    need man-db command -v man
    need mandoc command -v mandoc
    need mmdebstrap command -v mmdebstrap
    need nftables command -v nft
    need openssl command -v openssl
    need prometheus command -v promtool
    need python3-bcrypt /usr/bin/python3 -c 'import bcrypt'
    need python3-bpfcc /usr/bin/python3 -c 'import bcc'
    need python3-h11 /usr/bin/python3 -c 'import h11'
    need python3-pip /usr/bin/python3 -c 'import pip'
    need python3-yaml /usr/bin/python3 -c 'import yaml'
    need qemu-system-x86 command -v qemu-system-x86_64
    need runc command -v runc
    need zstd command -v zstd
}

install_missing() (
    [ -n "$missing" ] || exit 0
    command -v apt-get >/dev/null ||
        die "no apt-get here; install what Debian calls:$missing"
    say "installing$missing"
    # Prometheus and atop are for the tests alone: no service of theirs must start, now or at boot.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    # shellcheck disable=SC2086 # a list of words
    apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install $missing </dev/null
    command -v systemctl >/dev/null || exit 0
    case "$missing " in
    *' prometheus '*) systemctl --quiet disable prometheus ;;
    esac
    case "$missing " in
    *' atop '*) systemctl --quiet disable atop atopacct ;;
    esac
) >&2

# install_python EXTRAS: the package and the distributions it needs, in .venv.
install_python() (
    place="$root $(/usr/bin/python3 --version)"
    wanted="$place $(sha256sum pyproject.toml)"
    stamp=.venv/quickstart
    case $(cat "$stamp" 2>/dev/null) in
    "$wanted"*"$1") exit 0 ;;
    "$place "*) ;;
    *) # none yet, a checkout that was moved, or another Python
        /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            die "/usr/bin/python3 is $(/usr/bin/python3 --version); 3.11 or later is needed"
        /usr/bin/python3 -m venv --clear .venv
        ;;
    esac
    say "installing Python packages into .venv"
    .venv/bin/python -m pip --disable-pip-version-check install --quiet --editable ".[$1]"
    printf '%s %s\n' "$wanted" "$1" >"$stamp"
) >&2

# value FLAG DEFAULT ARGUMENT...: what the program will take for the flag.
value() {
    flag=$1 found=$2 before=
    shift 2
    for argument; do
        case $argument in
        "$flag="*) found=${argument#*=} ;;
        *) [ "$before" != "$flag" ] || found=$argument ;;
        esac
        before=$argument
    done
    printf '%s\n' "$found"
}

# Where to look, if the arguments say `serve`.
hint() {
    case ${1-serve} in
    --help | --version) return 0 ;;
    serve | --*) ;;
    *) return 0 ;;
    esac
    address=$(value --web.listen-address 127.0.0.1:10048 "$@")
    case $address in
    :* | 0.0.0.0:*) address=127.0.0.1:${address##*:} ;;
    esac
    url=http://$address$(value --web.telemetry-path /metrics "$@")
    say "the metrics will be at $url; in another terminal, try"
    say "    curl -s $url | grep ^netatop_group"
}

word=${1-run}
[ $# -eq 0 ] || shift
case $word in
run) ;;
test) [ $# -eq 0 ] || word=wrong ;;
-h | --help)
    usage
    exit 0
    ;;
*) word=wrong ;;
esac
if [ "$word" = wrong ]; then
    usage >&2
    exit 2
fi
[ "$(id -u)" -eq 0 ] || die "packages and kernel programs need root: sudo ./quickstart.sh $word"

caller=$PWD
root=$(dirname -- "$(readlink -f -- "$0")")
cd "$root"
PATH=$PATH:/usr/sbin:/sbin # after su, root's may be without
missing=

need_for_run
if [ "$word" = test ]; then
    need_for_test
    install_missing
    install_python dev,top
    exec make check
fi
install_missing
install_python top
make -s -C bpf >&2
hint "$@"
cd "$caller"
exec "$root/.venv/bin/netatop-exporter" "$@"
