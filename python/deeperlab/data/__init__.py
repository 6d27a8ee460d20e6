# SPDX-License-Identifier: Apache-2.0
"""Data: annotation formats, and drawn scenes with ground truth."""
