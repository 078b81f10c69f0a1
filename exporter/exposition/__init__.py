# SPDX-License-Identifier: Apache-2.0
"""From families to text: 0.0.4 and OpenMetrics 1.0. Knows formats, and no metric."""
