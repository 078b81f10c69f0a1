/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* By this file bcc knows a directory of kernel headers; no configuration matters here. */
