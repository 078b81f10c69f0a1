# SPDX-License-Identifier: Apache-2.0
"""Expressions that many panels have. Rates come first and sums then: counters begin anew."""

from __future__ import annotations

from typing import Final

HERE: Final = 'job=~"$job",instance=~"$instance"'
"""What every selector has: the exporters that were chosen."""
GROUP: Final = 'group=~"$group",namespace=~"$namespace",pod=~"$pod"'
"""And the groups, where they can be."""


def pick(metric: str, *matchers: str) -> str:
    """Return a selector of the exporters that were chosen."""
    return f"{metric}{{{','.join((HERE, *matchers))}}}"


def rate(metric: str, *matchers: str) -> str:
    """Return a rate; a window of $__rate_interval has two scrapes at least."""
    return f"rate({pick(metric, *matchers)}[$__rate_interval])"


def increase(metric: str, *matchers: str) -> str:
    """Return what was added in the time that is shown."""
    return f"increase({pick(metric, *matchers)}[$__range])"


def total(expression: str, *labels: str) -> str:
    """Sum up, by labels."""
    by = f" by ({', '.join(labels)})" if labels else ""
    return f"sum{by} ({expression})"


def top(expression: str, number: int = 10) -> str:
    """Return the greatest."""
    return f"topk({number}, {expression})"


def or_zero(expression: str) -> str:
    """Return 0 where there is nothing to add up: that is not the same as not knowing."""
    return f"{expression} or vector(0)"


ANSWER: Final = f"sum(min by (instance) ({pick('up')}))"
"""Exporters that answer; one may be scraped by several jobs."""
DO_NOT: Final = or_zero(f"count(min by (instance) ({pick('up')}) == 0)")


def quantile(share: float, histogram: str, *labels: str, matchers: tuple[str, ...] = ()) -> str:
    """Return a quantile of a histogram, and nothing where nothing fell into it."""
    buckets = total(rate(f"{histogram}_bucket", *matchers), "le", *labels)
    return f"histogram_quantile({share}, {buckets}) >= 0"
