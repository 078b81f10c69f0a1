# SPDX-License-Identifier: Apache-2.0
"""Images, built once for all tests, and name spaces to run them in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deploy import images
from tests.kernel.lab import alone
from tests.network import cable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deploy.images import Image
    from tests.network import Cable


@pytest.fixture(scope="session")
def image() -> Image:
    """Return the default image."""
    return images.built("default")


@pytest.fixture(scope="session")
def bcc_image() -> Image:
    """Return the image with a compiler."""
    return images.built("bcc")


@pytest.fixture
def network() -> Iterator[Cable]:
    """Return a pod's network on the left, and that of who asks it on the right.

    Nobody else measures meanwhile: what the kernel itself answers here, others would see.
    """
    with alone(), cable() as ends:
        yield ends
