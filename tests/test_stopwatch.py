"""Times of stages and telling how far a job is."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from zogyp.stopwatch import Stopwatch, peak_memory_mb


def test_stages_are_timed_and_told():
    told = []
    watch = Stopwatch(lambda name, done: told.append((name, done)))
    with watch.stage("sleep", 0.25):
        time.sleep(0.02)
    with watch.stage("nothing", 0.75):
        watch.tell("half", 0.8)
    assert told == [("sleep", 0.25), ("nothing", 0.75), ("half", 0.8)]
    assert list(watch.seconds) == ["sleep", "nothing"]
    assert 0.02 <= watch.seconds["sleep"] < 2
    assert watch.seconds["nothing"] < watch.seconds["sleep"]


def test_nobody_needs_to_listen():
    watch = Stopwatch()
    with watch.stage("quiet", 0.0):
        pass
    assert "quiet" in watch.seconds


def test_an_error_in_a_stage_passes():
    watch = Stopwatch()
    with pytest.raises(KeyError), watch.stage("fails", 0.0):
        raise KeyError("inside")


def test_peak_memory_is_in_megabytes():
    assert 20 < peak_memory_mb() < 1e6  # an interpreter with numpy, and no more than a terabyte


def test_peak_memory_is_this_process_own_and_not_that_of_the_one_that_started_it():
    """It once was: the small child of a process of 850 MB told 850 MB."""
    large = np.ones(40_000_000)  # 320 MB
    code = "from zogyp.stopwatch import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert large[-1] == 1 and peak_memory_mb() > 320
    assert 5 < float(done.stdout) < 200
