#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# quickstart.sh in a bare Debian, on the files of this checkout: it installs, counts and serves, and
# the second time it is quick, needs no network and touches nothing. `bare_debian.sh test` goes on
# with all tests. Needs root, debootstrap, git, curl, the network and 6 GB of memory.
#
# The tree is in memory and its mounts are in a mount namespace of their own: nothing stays behind.
set -euo pipefail
export LC_ALL=C.UTF-8
exec </dev/null

[ "${NETATOP_BARE-}" ] || NETATOP_BARE=1 exec unshare --mount "$0" "$@"

mirror=${MIRROR:-http://deb.debian.org/debian}
suite=${SUITE:-bookworm}
place='/srv/a checkout' # paths with spaces must work
port=$((20000 + RANDOM % 10000))
server=
tree=$(mktemp --directory)

clean_up() {
    [ -z "$server" ] || kill "$server" || :
    umount --recursive --lazy "$tree"
    rmdir "$tree"
}

mount --types tmpfs --options size=6G,mode=755 bare-debian "$tree"
trap clean_up EXIT
trap 'exit 130' HUP INT TERM

fail() {
    echo "bare_debian: $*" >&2
    exit 1
}

begin() {
    echo "--- $*"
    begun=$EPOCHREALTIME
}

end() {
    seconds=$(awk "BEGIN { printf \"%.2f\", $EPOCHREALTIME - $begun }")
    echo "--- $seconds s"
}

begin "a bare $suite"
debootstrap --variant=minbase "$suite" "$tree" "$mirror"
for directory in dev proc sys; do
    mount --rbind "/$directory" "$tree/$directory"
done
# The environment and this host's own certificate authorities may be what leads to the indexes.
mkdir -p "$tree/usr/local/share/ca-certificates" "$tree$place"
cp -rT /usr/local/share/ca-certificates "$tree/usr/local/share/ca-certificates"
quickstart=(chroot "$tree" env --chdir=/tmp HOME=/root "$place/quickstart.sh")
cd "$(dirname "$(readlink -f "$0")")/../.."
git ls-files -coz --exclude-standard | xargs -0 cp --no-dereference --parents --target-directory="$tree$place"
end

begin 'run once: installs, builds, and prints an exposition and nothing else'
"${quickstart[@]}" run once >"$tree/tmp/once"
end
chroot "$tree" "$place/.venv/bin/python" - <<'END'
from prometheus_client.parser import text_string_to_metric_families as parse

names = {family.name for family in parse(open("/tmp/once").read())}
assert {"netatop_receive_packets", "netatop_transmit_bytes"} <= names, names
END

begin 'run serve: answers from outside, knows who asked, ends with SIGTERM'
"${quickstart[@]}" run serve --web.listen-address "127.0.0.1:$port" &
server=$!
ask=(curl --silent --fail "http://127.0.0.1:$port/metrics")
"${ask[@]}" --retry 30 --retry-delay 1 --retry-connrefused >/dev/null
"${ask[@]}" >"$tree/tmp/served"
grep '^netatop_group_transmit_packets_total{.*group="curl".*protocol="tcp".* [1-9]' \
    "$tree/tmp/served" || fail 'curl is not in the metrics'
kill "$server"
wait "$server" || fail "exit status $?"
server=
end

begin 'run a second time, without a network: quick, and nothing is touched'
touch "$tree/tmp/now"
unshare --net "${quickstart[@]}" run --version
end
touched=$(find "$tree" -xdev -newer "$tree/tmp/now")
[ -z "$touched" ] || fail "touched: $touched"
[ "${seconds%.*}" -eq 0 ] || fail "the second run took $seconds s"

if [ "${1-}" = test ]; then
    begin 'test: installs more, then lint and all tests'
    "${quickstart[@]}" test
    end
fi
