# Two commands do all the set-up on a fresh Debian machine: `make demo` shows the daemon at work, `make test` checks it.
# Both say what they install.
.PHONY: demo test cross deb pi-test ha-test node-red-test tune-demo bench bench-peers bench-arm resnet fuzz deny setup rust

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
export PATH := $(PATH):$(HOME)/.cargo/bin

# libclang-dev: build of the camera library. Only tests need Mosquitto: installing it starts a broker on port 1883.
setup: rust
	@missing=""; for p in libclang-dev $(TEST_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing:$$missing"; $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq $$missing; fi

rust:
	@command -v cargo >/dev/null || { \
	  echo "installing: rustup gcc libc6-dev"; \
	  $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq rustup gcc libc6-dev && rustup default stable; } \
	|| { echo "Rust 1.91 or newer is needed and could not be installed: install it with rustup, then run make again"; exit 1; }

# The daemon on four demo pictures, with its detections printed as they come over MQTT; until Ctrl-C, or DEMO_SECONDS=30 make demo.
demo: setup
	cargo build --release
	examples/demo.sh

test: TEST_PACKAGES := mosquitto mosquitto-clients strace curl ffmpeg openssl jq python3-venv
test: setup
	cargo fmt --check
	cargo clippy --release --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --quiet
	{ python3 -m venv target/recipes && target/recipes/bin/pip install --quiet 'paho-mqtt>=2' 'aiomqtt>=2'; } \
	|| echo "test: the libraries of docs/recipes.md cannot be had; its programs in Python are skipped"
	cargo test --release
	cross/kernels.sh
	cross/detect.sh

# The program for a Raspberry Pi: target/arm/retinad. The first time about 20 minutes of CPU time.
cross: setup
	cross/build.sh

# Debian packages for the Pi and for this machine's kind: target/deb/. TWICE=1 make deb compiles each in a second folder, too, and compares.
deb: setup
	cross/deb.sh arm64
	cross/deb.sh amd64

# The package on a whole Pi in software, with every fault: one line a check, the total last. Installs QEMU from Debian's backports.
pi-test: setup
	cross/pi/run.sh

# With a real Home Assistant and Mosquitto in a Debian root of their own (target/ha-root, the first time two minutes and 1.2 GB), as root; six
# minutes. Says what it skips, and why, where root, mmdebstrap or the network is missing. HA_CHECKS="label camera" make ha-test for some,
# HA_CHECKS=--screenshots for the pictures of docs/home-assistant.md.
ha-test: setup
	cargo build --release --bin retinad --example make_site
	$(SUDO) tests/ha/run.sh $(HA_CHECKS) || { code=$$?; [ $$code = 2 ] || exit $$code; }

# The flow of docs/node-red in a real Node-RED (target/node-red, by npm; 20 s), beside Mosquitto and the daemon. Says SKIPPED where node or npm is missing.
NODE_RED := node-red@4.1.15
node-red-test: TEST_PACKAGES := mosquitto mosquitto-clients python3
node-red-test: setup
	cargo build --release --bin retinad
	@if ! command -v npm >/dev/null || ! node -e 'process.exit(parseInt(process.versions.node) < 18)'; then \
	  echo "SKIPPED: Node-RED needs Node.js 18 or newer, with npm (apt-get install nodejs npm)"; else \
	  test -x target/node-red/node_modules/.bin/node-red || npm install --prefix target/node-red --no-audit --no-fund --silent $(NODE_RED); \
	  python3 tests/node_red/check.py target/node-red/node_modules/.bin/node-red target/release/retinad; fi

# From samples to a better model in use, with the daemon running: on training pictures where they are beside this folder (in ../shared/data), else on
# a made-up site. NEW=bowl make tune-demo learns another class there.
NEW ?= toilet
VOC := ../shared/data/voc20
tune-demo: TEST_PACKAGES := python3
tune-demo: setup
	cargo build --release --bin retinad --example make_site --example tune_demo
	rm -rf target/tune-demo && mkdir -p target/tune-demo
	if [ -f $(VOC)/train-coco80.json ]; then \
	  test -d target/voc-train || { python3 -m zipfile -e $(VOC)/images/train.zip target/voc-train.new && mv target/voc-train.new target/voc-train; }; \
	  target/release/examples/make_site target/tune-demo 200 300 $(VOC)/train-coco80.json target/voc-train $(NEW); \
	else target/release/examples/make_site target/tune-demo 150 100; fi
	target/release/examples/tune_demo target/release/retinad target/tune-demo

# What a frame costs: the model, then everything else.
MODEL ?= models/retinad-m-320-int8.onnx
bench: setup
	cargo build --release
	target/release/retinad bench --model $(MODEL)
	cargo bench --bench frame

# Beside onnxruntime, OpenVINO, LiteRT and ncnn, each pinned in benches/peers.txt; writes benches/RESULTS.md.
bench-peers: TEST_PACKAGES := python3-venv
bench-peers: setup
	cargo build --release
	test -x target/peers/bin/python || python3 -m venv target/peers
	target/peers/bin/pip install --quiet -r benches/peers.txt
	target/peers/bin/python benches/peers.py

# Instructions a frame and cycles of the inner loops on ARM, under emulation; ARM=... names the program built for aarch64.
ARM ?= target/arm/aarch64-unknown-linux-gnu/release/retinad
bench-arm: TEST_PACKAGES := qemu-user gcc binutils-aarch64-linux-gnu llvm-19 python3-venv
bench-arm: setup
	@test -x $(ARM) || { echo "$(ARM): not there; make cross builds it, or name another: make bench-arm ARM=..."; exit 1; }
	{ echo "# On ARM, by emulation"; echo; echo "Written by \`make bench-arm\`; do not edit. Counts and tables, not times."; echo; \
	  cross/count/count.sh $(ARM) $(MODEL) $(wildcard ../shared/data/bench/*.onnx); echo; python3 cross/count/loops.py $(ARM); } > target/arm.md
	mv target/arm.md benches/RESULTS-ARM.md

# A large model to time beside the small ones: target/resnet50-fpn-320-int8.onnx, for bench-peers. Downloads torch (1 GB).
resnet: TEST_PACKAGES := python3-venv
resnet: setup
	test -x target/recipe/bin/python || python3 -m venv target/recipe
	target/recipe/bin/pip install --quiet -r models/recipe/requirements.txt torchvision==0.29.2
	target/recipe/bin/python models/recipe/resnet_retinanet.py --out target/resnet50-fpn-320-int8.onnx

# Random bytes where bytes of strangers come in (tests/fuzz), FUZZ_SECONDS for each of FUZZ_TARGETS; stops at the first that finds
# something. What was found stands in tests/fuzz/artifacts/TARGET. FUZZ_SECONDS=60 FUZZ_TARGETS=framer make fuzz for a short one.
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= broker_packets child_output client_packets framer onnx picture requests settings state_files
fuzz: setup
	@cargo fuzz --version >/dev/null 2>&1 || { \
	  echo "cargo-fuzz is not there; get it with: cargo install cargo-fuzz (two minutes; needs g++), then run make again"; exit 1; }
	cp Cargo.lock tests/fuzz/Cargo.lock
	set -e; for target in $(FUZZ_TARGETS); do \
	  mkdir -p target/fuzz-corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz $$target \
	    target/fuzz-corpus/$$target tests/fuzz/seeds/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=3000 -timeout=20 -print_final_stats=1; \
	done

# Licences, sources and known advisories of every dependency (cargo install cargo-deny).
deny:
	cargo deny check
