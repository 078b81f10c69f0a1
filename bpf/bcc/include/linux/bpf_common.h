/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Of classic BPF, which nothing here is; bcc includes it. */
