# SPDX-License-Identifier: Apache-2.0
"""A test that needs what the kernel lacks is a loss, with what is lost."""

from __future__ import annotations

import pytest

from exporter.kernel.hooks import UNSEEN_KERNEL
from tests import needs

MARKS = [pytest.mark.needs("netfilter", family=6).mark]


@pytest.mark.parametrize(
    ("there", "family", "said"),
    [(True, 6, ""), (False, 4, ""), (False, 6, f"loss: {UNSEEN_KERNEL}")],
)
def test_loss(monkeypatch: pytest.MonkeyPatch, there: bool, family: int, said: str) -> None:
    """Only where it lacks, and only with these parameters."""
    monkeypatch.setattr(needs, "is_there", lambda _: there)
    assert needs.loss(MARKS, {"family": family, "kind": 1}) == said


def test_unknown_feature() -> None:
    """A misspelled one is an error, not a test that always runs."""
    needs.is_there.cache_clear()
    with pytest.raises(KeyError, match="netfliter"):
        needs.loss([pytest.mark.needs("netfliter").mark], {})
