#!/bin/sh
# Builds runtime-tools' validation suite offline: build.sh TARBALL TAP.GO OUTPUT, into an empty
# OUTPUT. The libraries come from Debian's -dev packages (apt-get install golang-go
# golang-github-opencontainers-runtime-tools-dev golang-github-google-uuid-dev xz-utils);
# programs without cgo are static, so they run in the test VM whatever its libc.
set -eu
tarball=$1 tap=$2 output=$3
echo "203989a1ea98cf2aaced79155bbda09270b20db19b03376dde91ab12e5e6a0fe  $tarball" | sha256sum --check --quiet
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
source=$work/gopath/src/github.com/opencontainers/runtime-tools
mkdir -p "$source" "$work/gopath/src/github.com/mndrix/tap-go"
tar -xJf "$tarball" --strip-components=1 -C "$source"
cp "$tap" "$work/gopath/src/github.com/mndrix/tap-go/tap.go"
export GO111MODULE=off GOFLAGS= GOPATH="$work/gopath:/usr/share/gocode" GOCACHE="$work/gocache" CGO_ENABLED=0
cd "$source"
go build -ldflags '-s -w' -o "$output/runtimetest" ./cmd/runtimetest
programs=0
for folder in validation/*/; do
    name=$(basename "$folder")
    [ "$name" = util ] && continue
    go build -ldflags '-s -w' -o "$output/validation/$name" "./validation/$name"
    programs=$((programs + 1))
done
cp rootfs-amd64.tar.gz "$output/"
if [ "$programs" -ne 58 ]; then
    echo "runtime-tools' validation suite has $programs programs, not 58" >&2
    exit 1
fi
