# What is done with a checkout:
#   make run     try it: a demo server on 127.0.0.1, ports 2525 and 5587, mail below var/
#   make test    all tests, those against real servers (Dovecot, exim4, postfix) too
#   make check   style, types, layers, packaging, and the unit tests on Debian's own Python
#   make bench   how fast it is on this machine
#   make clean   remove what these made
# As root, missing Debian packages are installed; otherwise they are listed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find mailsrv twisted -name '*.py' 2>/dev/null)
WORKERS ?= 2

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_NO_INPUT = 1
export PIP_ROOT_USER_ACTION = ignore

VENV_PACKAGES := python3 python3-venv
TEST_PACKAGES := dovecot-core dovecot-imapd dovecot-lmtpd swaks slapd ldap-utils libnet-ssleay-perl strace openssl \
	util-linux libdb5.3 libgnutls-dane0 libgnutls30 libicu72 libidn12 libidn2-0 libldap-2.5-0 \
	libmariadb3 libnsl2 libpcre2-8-0 libperl5.36 libpq5 libsasl2-2 libspf2-2 libsqlite3-0 libxml2 liblz4-1 libpam0g libsystemd0
DEBIAN_PACKAGES := python3-twisted python3-openssl python3-dnspython python3-service-identity \
	python3-ldap3 python3-argon2 python3-pytest python3-pytest-xdist python3-hypothesis

# Hundreds of servers and commands are started: let them find what is compiled already.
KEEP_COMPILED = env -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX=$(CURDIR)/build/pycache

# $(call need,PACKAGES): install what is missing, or say what is; without dpkg nothing is known.
need = @./debian/need $(1)

.PHONY: run test check check-style check-types check-packaging check-debian bench clean

run: $(VENV)/installed
	@$(BIN)/python conf/demo.py

test: $(VENV)/tools
	$(call need,$(TEST_PACKAGES))
	$(KEEP_COMPILED) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests

check: check-style check-types check-packaging check-debian

check-style: $(VENV)/tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-types: $(VENV)/tools
	$(BIN)/mypy

check-packaging: $(VENV)/tools $(VENV)/installed
	rm -rf build/dist build/setuptools mailsrv.egg-info
	$(BIN)/python -m build --outdir build/dist . >build/build.log 2>&1 || { cat build/build.log; false; }
	MAILSRV_DIST=$(CURDIR)/build/dist $(BIN)/python -m pytest tests/test_packaging.py tests/test_layers.py
	cd / && $(CURDIR)/$(BIN)/twistd --help | grep -w mailsrv

check-debian:
	$(call need,$(DEBIAN_PACKAGES))
	@if [ "$(CI)" = true ] || /usr/bin/python3 -c 'import twisted, pytest, xdist, hypothesis, argon2'; \
	then set -x; /usr/bin/python3 -m pytest -n $(WORKERS) -p no:cacheprovider tests --ignore=tests/real; \
	else echo "The unit tests were not run on Debian's own packages."; fi

bench: $(VENV)/tools
	$(BIN)/pip install -q -r bench/requirements
	$(BIN)/python -m bench $(if $(QUICK),--quick)
	$(BIN)/python -m bench.strings $(if $(QUICK),--quick)
	$(if $(QUICK),,$(BIN)/python -m bench.curves)

clean:
	rm -rf $(VENV) build dist mailsrv.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	if [ -L var ]; then rm -rf "$$(readlink var)"; fi
	rm -rf var

# --- the virtual environment

$(VENV)/made:
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11)' 2>/dev/null \
	&& $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || ./debian/need $(VENV_PACKAGES)
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The package itself, not editable: what a user would have.
$(VENV)/installed: $(VENV)/made setup.cfg pyproject.toml README.md LICENSE $(SOURCES)
	rm -rf build/setuptools mailsrv.egg-info
	$(BIN)/pip install -q --upgrade .
	@rm -rf build/setuptools mailsrv.egg-info
	@touch $@

$(VENV)/tools: $(VENV)/installed tests/requirements
	$(BIN)/pip install -q -r tests/requirements
	@touch $@
