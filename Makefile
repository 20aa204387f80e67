# Two commands do all the set-up on a fresh Debian machine: `make test` and `make bench`; both say what they install.
.PHONY: test bench setup

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

setup:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.91 or newer with rustup, then run make again"; exit 1; }
	@missing=""; for p in libclang-dev mosquitto mosquitto-clients; do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing:$$missing"; $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq $$missing; fi

test: setup
	cargo fmt --check
	cargo clippy --release --all-targets -- -D warnings
	cargo test --release

# No model is shipped yet: name one, e.g. `make bench MODEL=my-model.onnx`.
bench: setup
	@test -n "$(MODEL)" || { echo "no model is shipped yet: make bench MODEL=FILE.onnx"; exit 2; }
	cargo build --release
	target/release/retinad bench --model $(MODEL)
