# SPDX-License-Identifier: Apache-2.0
"""Facts -> meaning: which group a task belongs to, and sums that never fall."""
