# One command a task; CONTRIBUTING.md says when to use which.
# Everything is installed into .venv and, for compilers and QEMU, from Debian's packages.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

venv := .venv/bin
# BLAS on one thread: two threads on a busy two-core machine are slower than one.
export OPENBLAS_NUM_THREADS ?= 1
# The documentation's theme advertises its successor otherwise.
export NO_MKDOCS_2_WARNING := 1
# Hundreds of processes start in the tests: each would compile all of its modules again.
unexport PYTHONDONTWRITEBYTECODE

# The Arm leg: the cross compiler, the C++ run-time library that the prebuilt ggml wants, and the emulator.
arm_packages := gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
# The scalar source on POWER and on a big-endian machine.
other_packages := pocl-opencl-icd gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross gcc-s390x-linux-gnu libc6-dev-s390x-cross
# A Vulkan device on the CPU, for ggml's Vulkan backend.
device_packages := mesa-vulkan-drivers libvulkan1
build_packages := gcc libc6-dev cmake ninja-build
# The site and the HTML report are looked at in a browser.
browser_packages := chromium

.PHONY: help demo quick test lint heavy unit evaluate plots llama-tools docs serve-docs vectors bench pages peers reference-mutants arm certify big-endian wheel release clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

demo: ## judge the reference, our C kernel and a real ggml, and print the verdicts
	@.ci/system-packages $(build_packages)
	@.ci/environment suite,peers
	@$(venv)/python -m q8a8_lab.demo

test: ## everything that can be checked: types, style, tests, QEMU legs, real kernels, docs, the wheel
	@.ci/system-packages $(build_packages) $(arm_packages) $(other_packages) $(device_packages) $(browser_packages)
	@.ci/environment dev
	@# Each of the two takes one core.
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint heavy
	@$(MAKE) --no-print-directory unit

# Without the imports on other systems, each of which is a process, and with few examples of each property.
quick_tests := $(addprefix conformance/tests/,refimpl golden/test_conform.py test_imports.py) \
  --ignore=conformance/tests/refimpl/test_portable.py

quick: ## for daily work: style, types, the reference's and the vectors' tests, one kernel
	@.ci/environment dev
	$(venv)/ruff format --check .
	$(venv)/ruff check .
	@# mypy without its cache takes as long as all of the rest: beside it.
	$(venv)/mypy & types=$$!; status=0; \
	{ HYPOTHESIS_PROFILE=quick $(venv)/python -m pytest --no-cov -q $(quick_tests) && \
	  $(venv)/q8a8 test ref --profile exact --rules 'LAY-*,HLF-*,DEQ-*,DOT-*' --only-failed; } || status=$$?; \
	wait $$types || status=$$?; exit $$status

lint: ## ruff and mypy, over everything
	@.ci/environment dev
	$(venv)/ruff format --check .
	$(venv)/ruff check .
	$(venv)/mypy

# The tests that cover the reference. Counting lines makes a test 2.6 times slower, so that the others run without it.
covering := $(addprefix conformance/tests/,refimpl methods llama ggufio $(addprefix evaluation/test_, \
  calibrate.py divergence.py perplexity_measure.py schemes.py statistics.py))
run_tests := $(venv)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

unit: ## the tests alone; those of the reference with its coverage
	@.ci/environment dev
ifdef PYTEST_ARGS
	$(run_tests) --ignore=conformance/tests/heavy $(PYTEST_ARGS)
else
	$(run_tests) --cov --cov-report=term $(covering)
	$(run_tests) $(addprefix --ignore=,conformance/tests/heavy $(covering))
endif

heavy: ## the methods against PyTorch's packages (torch, torchao, bitsandbytes and others), a leg of its own
	@.ci/environment dev,heavy
	$(venv)/python -m pytest conformance/tests/heavy $(PYTEST_ARGS)

evaluate: ## every scheme on a real model: perplexity, table and plots; writes docs/model/evaluation.md; resumes
	@.ci/environment dev
	$(venv)/python -m q8a8_lab.evaluation.run --markdown docs/model/evaluation.md
	$(venv)/python -m q8a8_lab.evaluation.claims --measure --markdown docs/model/claims.md \
		--korean docs-ko/model/claims.md

plots: ## renew the plots of the methods' pages, on the real model
	@.ci/environment dev
	for name in smoothquant dynamic weight_only llm_int8 kv_cache awq gptq fp8 observers; do \
	  $(venv)/python -m q8a8_lab.evaluation.plots.$$name; done

llama-tools: ## release check: build llama-perplexity and llama-bench, run them on the real model in F16 and Q8_A8
	@.ci/system-packages $(build_packages) g++
	@.ci/environment dev
	$(venv)/python -m q8a8_lab.evaluation.llama_tools --measured docs/model/measured
	$(venv)/python -m q8a8_lab.evaluation.bench_plan docs/model/measured/bench-plan.json

docs: ## build the documentation site, English and Korean, into site/
	@.ci/environment dev
	$(venv)/python -m q8a8_lab.pages.rules_index --check docs
	$(venv)/python -m q8a8_lab.pages.site

serve-docs: ## the English documentation at a local port, rebuilt as you write
	@.ci/environment dev
	$(venv)/python -c "from q8a8_lab.pages.site import copy_mathjax; copy_mathjax()"
	$(venv)/mkdocs serve

vectors: ## regenerate the golden vectors, where reference, oracle and C kernel agree
	@.ci/system-packages $(build_packages)
	@.ci/environment dev
	$(venv)/q8a8 vectors generate

bench: ## speed and memory as ratios against gguf-py, the C scalar kernel, BLAS and memcpy
	@.ci/system-packages $(build_packages)
	@.ci/environment dev
	$(venv)/q8a8 bench

pages: ## renew the pages that are made by commands: mistakes, diagnosis, real kernels
	@.ci/system-packages $(build_packages) $(arm_packages) $(other_packages) $(device_packages) llvm-19
	@.ci/environment dev
	$(venv)/python -m q8a8_lab.pages.rules_index --write docs
	$(venv)/python -m q8a8_lab.pages.korean --write
	$(venv)/python -m q8a8_lab.pages.drawings --write docs/assets
	$(venv)/python -m q8a8_lab.mutation --markdown docs/mutants.md
	$(venv)/python -m q8a8_lab.pages.causes --markdown docs/diagnosis.md
	$(venv)/python -m q8a8_lab.pages.reveal --markdown docs/reveal.md
	$(venv)/python -m q8a8_lab.peers --markdown docs/peers.md
	$(venv)/python -m q8a8_lab.pages.fingerprint --markdown docs/one-result.md
	$(venv)/python -m q8a8_lab.pages.arm_cost --markdown docs/arm-cost.md

peers: ## release check: build ggml for every order in the table, compare bit for bit, write docs/peers.md
	@.ci/system-packages $(build_packages) g++ $(arm_packages) $(device_packages)
	@.ci/environment dev
	$(venv)/python -m q8a8_lab.peers.build
	$(venv)/python -m q8a8_lab.peers.products
	$(venv)/python -m q8a8_lab.peers --markdown docs/peers.md

reference-mutants: ## release check: mutate the core of the reference; its tests must notice, or a reason be listed
	@.ci/environment dev,mutation
	$(venv)/python -m q8a8_lab.mutation.reference

arm: ## on an Arm machine: build the kernels for it and judge each that its CPU can run
	@.ci/system-packages $(build_packages)
	@.ci/environment suite
	@$(venv)/python -m q8a8_lab.demo --native-arm --reports reports

certify: ## every input of the finite domains, for the reference and the C kernel; resumes; about an hour
	@.ci/system-packages $(build_packages)
	@.ci/environment dev
	@mkdir -p .cache/certify reports
	$(venv)/python -c "from q8a8_lab import native_build; native_build.build('native')"
	$(venv)/q8a8 certify ref --state .cache/certify/ref --json reports/certificate-ref.json
	$(venv)/q8a8 certify lib:native_check/build/native/lib/libq8a8-scalar.so --state .cache/certify/c --json reports/certificate-c.json

big-endian: ## release check: the reference over the golden vectors, on Debian's Python and NumPy for s390x, under QEMU; as root
	@.ci/system-packages debootstrap qemu-user
	@.ci/environment suite
	$(venv)/python -m q8a8_lab.big_endian

wheel: ## build the wheel and the source distribution into dist/
	@.ci/environment dev
	$(venv)/python -m build

release: wheel ## everything of a release into dist/: wheel, sdist, static harnesses, golden vectors, checksums
	@.ci/system-packages $(build_packages) $(arm_packages)
	cmake -S native_check -B .cache/release/x86_64 -DCMAKE_EXE_LINKER_FLAGS=-static
	cmake -S native_check -B .cache/release/aarch64 -DCMAKE_EXE_LINKER_FLAGS=-static \
	  -DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/native_check/cmake/aarch64-linux-gnu.cmake
	for machine in x86_64 aarch64; do \
	  cmake --build .cache/release/$$machine --target q8a8-harness && \
	  cp .cache/release/$$machine/bin/q8a8-harness dist/q8a8-harness-$$machine; done
	tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C golden/q8a8_golden -czf dist/q8a8-golden-vectors.tar.gz data
	cd dist && sha256sum q8a8-harness-* q8a8-*.tar.gz q8a8-*.whl > SHA256SUMS

clean: ## remove what the targets made, the environment too
	rm -rf .venv .cache build dist site reports native_check/build .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
