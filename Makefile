# Strata: the commands of README.md.
#   make demo · test · bench     what a person runs first
#   make test-v2                 the part of test that boots a guest with cgroup v2
#   make test-upgrade            from the programs of an older commit to these, with containers running
#   make build · static          target/bin: all programs, as tests use them, static ones included
#   make dist                    target/dist/bin: the same, optimised as a whole, which takes longer
#   make install PREFIX=/usr     copies those there, with units of systemd, manual pages, completions and settings; DESTDIR
#                                stands before all paths; make uninstall takes it away
#   make deb                     target/deb: a Debian package
# Debian packages that are missing are named, then installed.

SHELL := /bin/sh
.DEFAULT_GOAL := build
.PHONY: build static dist old demo test test-v2 test-systemd test-upgrade test-all bench peers install uninstall deb base systemd python python-base nginx-base services-base kernel test-list \
	packages-build packages-demo packages-test packages-vm

CARGO ?= cargo
PREFIX ?= /usr/local
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
BASE := $(TARGET)/images/debian-bookworm.tar
PYTHON := $(TARGET)/images/debian-python.tar
NGINX := $(TARGET)/images/debian-nginx.tar
SERVICES := $(TARGET)/images/debian-services.tar
SYSTEMD := $(TARGET)/images/debian-systemd.tar
DIST := $(TARGET)/dist/bin
DYNAMIC := ctl strata-store strata-builder strata-runtime
STATIC := strata-init strata-oci
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
# A host's own directories are root's; those below DESTDIR are of whoever packs.
INSTALL := $(if $(DESTDIR),,$(SUDO)) env PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' sh ctl/dist/install.sh
# The last commit of the issue before, from whose programs test-upgrade goes to these.
BEFORE := 5ef88658f6dda7e4d382920643a6ae2bc20e210c
OLD := $(TARGET)/old
# What the guests of the tests load into Debian's kernel: overlays, disks with quotas, bridges and their rules, interfaces on
# interfaces, and NFS with its server.
MODULES := overlay crc32c_generic loop ext4 xfs quota_v2 \
	bridge veth nf_tables nft_chain_nat nft_ct nft_fib_inet nft_masq nft_nat \
	8021q ipvlan macvlan \
	nfs nfsv4 nfsd
PEERS := podman buildah crun runc docker.io containerd skopeo umoci docker-registry iptables containernetworking-plugins iperf3

export CARGO_TARGET_DIR := $(TARGET)
# Containers need root; who builds as a user runs the tests through sudo.
ifneq ($(SUDO),)
export CARGO_TARGET_$(shell echo $(HOST) | tr a-z- A-Z_)_RUNNER := sudo -E
endif

# Installs what is missing of $(1), and says so. A cargo or rustup Rust is the user's own business.
define packages
@missing=; for package in $(1); do \
	[ "$$(dpkg-query -W -f='$${db:Status-Status}' $$package 2>/dev/null)" = installed ] || missing="$$missing $$package"; \
done; \
if [ -n "$$missing" ]; then \
	echo "installing Debian packages:$$missing"; \
	$(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
fi
endef

packages-build:
	$(call packages,gcc libc6-dev nasm autoconf automake libtool)

packages-demo: packages-build
	$(call packages,mmdebstrap ca-certificates)

packages-test: packages-demo
	$(call packages,curl git openssh-client python3 python3-venv iproute2 util-linux bsdutils uidmap redis-tools podman buildah containerd docker.io skopeo umoci docker-registry erofs-utils nftables passt slirp4netns iperf3 tmux)

packages-vm:
	$(call packages,qemu-system-x86 xfsprogs)

# Puts $(2) into directory $(1) under the names they have: whole, or not at all, even where one is running.
define place
mkdir -p $(1); for file in $(2); do \
	install -m 755 $$file $(1)/.$$(basename $$file).new && mv -f $(1)/.$$(basename $$file).new $(1)/$$(basename $$file) || exit 1; \
done
endef

static: packages-build
	RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" $(CARGO) build --profile static --target $(HOST) -p strata-init -p strata-oci -p strata-guest
	@$(call place,$(TARGET)/bin,$(STATIC:%=$(TARGET)/$(HOST)/static/%))
	@$(call place,$(TARGET)/guest,$(TARGET)/$(HOST)/static/strata-guest)

build: static
	$(CARGO) build --release
	@$(call place,$(TARGET)/bin,$(DYNAMIC:%=$(TARGET)/release/%))
	@$(call place,$(TARGET)/release,$(STATIC:%=$(TARGET)/$(HOST)/static/%))

dist: static
	$(CARGO) build --profile dist -p strata-ctl -p strata-store -p strata-builder -p strata-runtime
	@$(call place,$(DIST),$(DYNAMIC:%=$(TARGET)/dist/%) $(STATIC:%=$(TARGET)/$(HOST)/static/%))

# The programs of the older commit, in target/old/bin: built once.
old: packages-test
	sh tests/upgrade/old.sh $(BEFORE) $(OLD)

base: packages-demo
	sh tests/images/base.sh $(BASE)

# The same with Python, for a stand-in of the image of that name.
python-base: packages-demo
	sh tests/images/base.sh $(PYTHON) python3 python3-pip

# The same with nginx, for tests of published ports.
nginx-base: packages-demo
	sh tests/images/base.sh $(NGINX) nginx

# The same with a database, a server of names and a measure of streams, for tests of networks and volumes, and with a pager and
# an editor, for sessions on a terminal.
services-base: packages-demo
	sh tests/images/base.sh $(SERVICES) postgresql dnsmasq-base iperf3 less vim-tiny

# The same with systemd, for a guest that it runs.
systemd: packages-demo
	sh tests/images/base.sh $(SYSTEMD) systemd dbus libpam-systemd procps

# Python with grpcio, and stubs made from proto/: what another service's client would do.
python: packages-test
	sh tests/contract/python/stubs.sh $(TARGET)/python

# HUB=1 also pulls from Docker Hub, which the tests never do.
demo: build base
	$(SUDO) env STRATA_TARGET=$(TARGET) HUB=$(HUB) bash tests/demo/demo.sh

# Debian's kernel, for guests of QEMU.
kernel: packages-vm
	sh tests/vm/kernel.sh $(TARGET)/vm $(MODULES)

# Names the test binaries after their sources, for what runs them elsewhere.
test-list: build packages-test
	@mkdir -p $(TARGET)/vm
	$(CARGO) test --release --workspace --no-run --message-format json-render-diagnostics >$(TARGET)/vm/built.json
	@sed -n 's/.*"src_path":"$(subst /,\/,$(CURDIR))\/\([^"]*\)".*"test":true},"features".*"executable":"\([^"]*\)".*/\1 \2/p' \
		$(TARGET)/vm/built.json >$(TARGET)/vm/tests

# The cases of property tests are the same ones in every run; test-all draws new ones.
test: build base python python-base nginx-base services-base packages-test kernel test-list
	PROPTEST_RNG_SEED=1 $(CARGO) test --release --workspace

# What needs cgroup v2 or an older kernel, in a guest of QEMU; part of test.
test-v2: build base packages-test kernel test-list
	$(CARGO) test --release --workspace --test vm

# What needs systemd, in such a guest; part of test-all.
test-systemd: build deb systemd packages-test kernel test-list
	$(CARGO) test --release --workspace --test vm -- --ignored systemd::

# From the programs of an older commit to these; part of test-all. The first time takes as long as another build.
test-upgrade: build base packages-test old
	$(CARGO) test --release --workspace --test e2e -- --ignored older::

# As test, with ten times the kills, containers and races, new cases for properties, every case beside other builders, every
# exit code and signal, a thousand ends for want of memory, a million mutated build definitions, a guest with systemd, and an
# upgrade.
test-all: build old deb base systemd python python-base nginx-base services-base packages-test kernel test-list
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings
	STRATA_KILLS=500 STRATA_LEAKS=1000 STRATA_ROUNDS=10000 STRATA_CASES=all STRATA_MUTATIONS=1000000 \
	STRATA_CONTAINERS=100 STRATA_OOMS=1000 \
		$(CARGO) test --release --workspace
	$(CARGO) test --release --workspace --test vm -- --ignored systemd::
	$(CARGO) test --release --workspace --test e2e -- --ignored older::

# Compares with what is found on PATH; `make peers` installs Debian's podman, buildah, crun, runc and docker.
# BENCH="--runs 30 --only run" for less or more of it.
bench: dist base python-base
	STRATA_BINARIES=$(DIST) $(CARGO) run --release -p strata-tests --bin strata-bench -- $(BENCH)

peers:
	$(call packages,$(PEERS))

install: dist
	@$(INSTALL) $(DIST)

# State and settings stay.
uninstall:
	@$(INSTALL) --uninstall

# With dpkg-deb alone, for the Debian that it is made on and later ones.
deb: dist
	@mkdir -p $(TARGET)/deb
	@sh ctl/dist/debian/package.sh $(DIST) $(VERSION) $(TARGET)/deb
