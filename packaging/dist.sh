#!/bin/sh
# Makes everything that a release consists of in dist/: packages, archives, a bill of materials for each program, and the sums of
# them all. The same commit gives the same bytes. `make dist` calls it, after `make cross`.
set -eu
cd "$(dirname "$0")/.."

GO=${GO:-go}
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0
cyclonedx=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

dist=dist
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C
day=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%d)
if tag=$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null); then
	version=${tag#v}
else # sorts before every release
	version=0.0.0~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d).$(git rev-parse --short=12 HEAD)
fi
# What is built is the tree as it lies here: one that is not HEAD must not look like it.
[ -z "$(git status --porcelain --untracked-files=no)" ] || version=$version+dirty
umask 022

rm -rf $dist/out $dist/man $dist/completions
mkdir -p $dist/out $dist/man $dist/completions $dist/tools
tools=$(cd $dist/tools && pwd)
# No part of what is shipped: who builds with a cache of its own may name another for them.
for tool in $nfpm $cyclonedx; do GOBIN=$tools GOCACHE=${TOOLS_CACHE:-$($GO env GOCACHE)} $GO install "$tool"; done

# What the programs say of themselves.
$GO build -trimpath -buildvcs=false -tags urfave_cli_no_docs -o "$tools/bin/" ./cmd/ccagent ./cmd/cchelper
for shell in bash fish; do "$tools/bin/ccagent" completion $shell >"$dist/completions/ccagent.$shell"; done
"$tools/bin/ccagent" completion zsh >$dist/completions/_ccagent
(cd packaging/man && $GO run . "$tools/bin" ../../docs "../../$dist/man" "$version" "$day")
gzip -9nf $dist/man/*.[0-9]

for arch in amd64 arm64; do
	sed -e "s|@ARCH@|$arch|; s|@VERSION@|$version|; s|@DIST@|$dist|; s|@MTIME@|$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)|" \
		packaging/nfpm.yaml | sed "s|@ARCH@|$arch|" >"$tools/nfpm-$arch.yaml"
	for kind in deb rpm; do "$tools/nfpm" package --config "$tools/nfpm-$arch.yaml" --packager $kind --target $dist/out/; done
done

for platform in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; do
	name=ccagent-$version-$(echo $platform | tr / -)
	tree=$tools/tree/$name
	rm -rf "$tools/tree"
	mkdir -p "$tree/man" "$tree/completions"
	cp $dist/$platform/ccagent $dist/$platform/cchelper LICENSE README.md CHANGELOG.md "$tree/"
	cp $dist/man/* "$tree/man/"
	cp $dist/completions/* "$tree/completions/"
	chmod -R u=rwX,go=rX "$tree"
	case $platform in linux/*) chmod 0711 "$tree/ccagent" "$tree/cchelper" ;; esac # as in the packages
	tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$tools/tree" -cf - "$name" |
		gzip -9n >"$dist/out/$name.tar.gz"
done

for program in ccagent cchelper; do
	"$tools/cyclonedx-gomod" bin -json -noserial -notimestamp -std -version "$version" \
		-output "$dist/out/$program-$version.cdx.json" $dist/linux/amd64/$program 2>/dev/null
done
rm -rf "$tools"
(cd $dist/out && sha256sum -- * >SHA256SUMS)
ls -l $dist/out
