#!/bin/sh
# Downloads the source of runtime-tools as trixie's archive has it: fetch.sh FOLDER makes
# FOLDER/suite.tar.xz. It uses the archive that this machine's own apt is set up with, with lists of
# its own in FOLDER, so the machine's apt stays as it is. apt checks the tarball against the signed
# index; build.sh checks its hash. Where the archive has it no more, a copy beside the checkout does.
set -eu
folder=$1
version=0.9.0.109.ge931285
kept=$(dirname "$0")/../../../shared/vendor/golang-github-opencontainers-runtime-tools_$version.orig.tar.xz
mkdir -p "$folder/parts" "$folder/lists/partial" "$folder/archives/partial"
awk '/^Types:/ { print "Types: deb-src"; next } /^Suites:/ { print "Suites: trixie"; next } /^Components:/ { print "Components: main"; next } { print }' \
    /etc/apt/sources.list.d/debian.sources | awk 'BEGIN { RS = "" } NR == 1' >"$folder/parts/source.sources"
cat >"$folder/apt.conf" <<END
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$folder/parts";
Dir::State::lists "$folder/lists";
Dir::Cache::archives "$folder/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Sandbox::User "root";
END
export APT_CONFIG="$folder/apt.conf"
apt-get update -qq
if (cd "$folder" && apt-get source -qq --tar-only golang-github-opencontainers-runtime-tools=$version-1); then
    mv "$folder"/*.orig.tar.xz "$folder/suite.tar.xz"
else
    cp "$kept" "$folder/suite.tar.xz"
fi
