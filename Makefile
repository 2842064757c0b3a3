# kinesis - data streams inside PostgreSQL.
#
#   make, make install      build and install for the server of PG_CONFIG
#   make demo [INPUT=file]  the main job on real input, in a private cluster
#   make test               every test, in private clusters
#   make help               the rest

EXTENSION  = kinesis

MODULE_big = kinesis
OBJS       = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
DATA       = $(wildcard kinesis--*.sql)
PGFILEDESC = "kinesis - data streams inside PostgreSQL"

# Each test has a database of its own and the server needs settings, so the tests bring their server: see scripts/run_tests.
NO_INSTALLCHECK = 1

# Server headers come in as system headers: -Wall -Wextra is for our own code.  Parameters that only a callback's type asks
# for stay unused.  All symbols stay visible on 15, whose headers do not mark SQL functions for export; 16 hides the others.
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server)
PG_CFLAGS   = -std=gnu17 -Wextra -Wno-unused-parameter -Wno-declaration-after-statement -Wshadow=local
SHLIB_LINK  = -lcrypto

# Warnings are errors where we test, not where others build.
ifneq ($(CI)$(WERROR),)
PG_CFLAGS += -Werror
endif

EXTRA_CLEAN = tmp_check

# On Debian PostgreSQL 15's, also when another one (or libpq's) comes first in the path.
PG_CONFIG ?= $(if $(wildcard /etc/debian_version),/usr/lib/postgresql/15/bin/pg_config,pg_config)
export PG_CONFIG

# ---- What works before anything is installed: the scripts bring what they need. ----

.PHONY: default demo test check-regress check-isolation check-tap check-pgtap stress bench deps lint format format-check help
default: all

demo:
	@scripts/demo '$(INPUT)'

test:
	@scripts/run_tests

check-regress check-isolation check-tap check-pgtap stress:
	@scripts/run_tests $(@:check-%=%) $(TESTS)

bench:
	@scripts/install_deps
	@scripts/build
	@bench/run

deps:
	@scripts/install_deps

# Exported names begin with kin_, or are those that the server looks for.
lint: all
	@scripts/check_symbols $(OBJS)

format:
	clang-format -i src/*.c src/*.h

format-check:
	clang-format --dry-run --Werror src/*.c src/*.h

help:
	@echo 'make, make install       build and install for the server of PG_CONFIG ($(PG_CONFIG))'
	@echo 'make demo [INPUT=file]   the main job on real input, in a private cluster'
	@echo 'make test                every test, in private clusters (installs what is missing)'
	@echo 'make check-regress, check-isolation, check-tap, check-pgtap [TESTS="name ..."]   one ring of tests'
	@echo 'make stress              writers, resharding, readers, a standby and kill -9'
	@echo 'make bench               the benchmark against the plain heap'
	@echo 'make lint, format, format-check, clean'

# ---- PGXS ----

ifneq ($(shell command -v $(PG_CONFIG)),)
# No bitcode: nothing here is worth inlining into a query, and it doubles the time to build.
override with_llvm := no
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)
$(OBJS): $(wildcard src/*.h) Makefile
else
all install clean:
	@echo '$(PG_CONFIG) not found: run "make deps", or set PG_CONFIG' >&2; exit 1
endif
