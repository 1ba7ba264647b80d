"""Freed memory: kept where the command asks for it, given back when it runs short."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from zogyp.cli import main
from zogyp.core.heap import SET_BY_USER

SCRIPT = """
import ctypes, resource, sys
from zogyp.core.heap import give_back, keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = b"x" * (1 << 26)
    del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of one size are what is counted
if "keep" in sys.argv:
    keep_freed()
first = faults()
if "back" in sys.argv:
    give_back()
print(first, faults())
"""
COMMAND = """
import gc, os
from zogyp import __main__ as program, process
kept = []
process.keep_freed = lambda: kept.append(True)
program.main = lambda: (gc.get_threshold()[0], os.environ["OPENBLAS_NUM_THREADS"], len(kept))
print(program.run())
"""
PAGES = (1 << 26) // os.sysconf("SC_PAGE_SIZE")


def pages_of_two_blocks(*words, **environment):
    """Pages that the system handed out for a block, and for one more after that was freed."""
    clean = {k: v for k, v in os.environ.items() if k not in SET_BY_USER}
    command = [sys.executable, "-c", SCRIPT, *words]
    told = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True).stdout
    return [int(word) for word in told.split()]


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.confstr("CS_GNU_LIBC_VERSION") is None, reason="glibc only"
)
def test_a_freed_block_becomes_the_next_one_only_where_asked():
    first, second = pages_of_two_blocks("keep")
    assert first > 0.9 * PAGES and second < 0.1 * PAGES
    assert min(pages_of_two_blocks()) > 0.9 * PAGES  # glibc's own way
    assert min(pages_of_two_blocks("keep", "back")) > 0.9 * PAGES
    assert min(pages_of_two_blocks("keep", MALLOC_MMAP_MAX_="65536")) > 0.9 * PAGES  # the user's way


@pytest.mark.parametrize("words", [(), ("--memory", "2G"), ("--memory=2G",)])
def test_the_command_sets_up_its_process_and_a_call_of_main_none(words):
    """Freed memory is kept, unless a limit is set to what there may be."""
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", COMMAND, "subtract", *words]
    told = subprocess.run(command, env=clean, capture_output=True, text=True, check=True).stdout
    assert told.strip() == f"(100000, '1', {0 if words else 1})"
    before = gc.get_threshold()
    assert main(["--version"]) == 0
    assert gc.get_threshold() == before
