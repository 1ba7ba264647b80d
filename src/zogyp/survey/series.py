"""Many images subtracted from one reference, which is read and measured once; a failure stops none."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zogyp import io
from zogyp.errors import OptionError
from zogyp.image import Image
from zogyp.options import SubtractOptions
from zogyp.products import Subtraction
from zogyp.subtraction import Reference, subtract
from zogyp.survey.alignments import Outcome, attempted

Progress = Callable[[str, float], None]
Writer = Callable[[Subtraction], dict[str, Path]]


def subtract_series(
    new: Sequence[str | os.PathLike[str]],
    ref: str | Path | Image,
    options: SubtractOptions = SubtractOptions(),
    *,
    write: Writer,
    progress: Progress = lambda stage, done: None,
) -> list[Outcome]:
    """Subtract one reference from many images, one after another.

    Parameters
    ----------
    new : sequence of paths
        Their names without folders and endings must differ, for their results lie in one folder.
    ref : path or Image
    options : SubtractOptions
    write : callable
        Given each result; writes it and returns the paths by product. The result is then let go.
    progress : callable
        Called with what is done and the fraction of the whole that is.

    Returns
    -------
    list of Outcome
        In the order of ``new``; ``figures`` are the summaries.

    Raises
    ------
    OptionError
        Two images have one name.
    InputError
        The reference cannot be read.
    """
    names = [os.fspath(path) for path in new]
    twice = [name for name, n in Counter(io.stem(name) for name in names).items() if n > 1]
    if twice:
        raise OptionError("images", ", ".join(twice), "names that differ: the results lie in one folder")
    progress("reference", 0.0)
    known = Reference(ref, options)
    outcomes = []
    for i, name in enumerate(names):

        def told(stage: str, done: float, i: int = i) -> None:
            progress(f"{i + 1}/{len(names)} {stage}", (i + done) / len(names))

        def work(name: str = name, told: Progress = told) -> tuple[dict[str, Path], dict[str, Any]]:
            result = subtract(name, known, options, progress=told)
            return write(result), result.summary

        outcomes.append(attempted(name, work))
    return outcomes
