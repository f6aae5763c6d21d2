"""The sizes at which a dynamic model was compared, in short words."""

from collections.abc import Iterable

from trtyard.core.report import Report, SizeParity
from trtyard.report import words


def sized_pairs(report: Report) -> list[tuple[str, str]]:
    """Return the pairs of runtimes that were compared at several sizes, each once."""
    return list(dict.fromkeys(each.pair for each in report.sizes))


def dimension_names(report: Report) -> str:
    """Return the names of the dimensions that vary, such as "batch x s"."""
    return " x ".join(each.name for each in report.dimensions)


def sizes_compared(report: Report, pair: tuple[str, str]) -> list[SizeParity]:
    """Return the sizes at which a pair was compared, the smallest first."""
    own = [each for each in report.sizes if each.pair == pair]
    return sorted(own, key=lambda each: tuple(each.sizes.values()))


def size_numbers(each: SizeParity) -> str:
    """Return the sizes alone, in the order of ``dimension_names``, such as "4x16"."""
    return "x".join(map(str, each.sizes.values()))


def size_words(each: SizeParity) -> str:
    """Return the sizes with their names, such as "batch 4, s 16"."""
    return ", ".join(f"{name} {size}" for name, size in each.sizes.items())


def largest_difference(sizes: Iterable[SizeParity]) -> float | None:
    """Return the largest difference of any output at these sizes; None if nothing was compared."""
    found = [row.max_abs for each in sizes for row in each.parity if row.max_abs is not None]
    return max(found, default=None)


def size_remarks(each: SizeParity) -> str:
    """Return what failed at a size, in one line, or ""."""
    outputs = [row.output for row in each.parity if not row.passed]
    if any(not one.passed for one in each.detections):
        outputs.insert(0, "detections")
    differing = f"{words.listed(outputs)} beyond the tolerance" if outputs else ""
    problems = [row.problem for row in each.parity if row.problem]
    return words.one_line("; ".join(filter(None, [each.problem, differing, *problems])))
