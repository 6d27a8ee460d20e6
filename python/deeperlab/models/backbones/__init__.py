# SPDX-License-Identifier: Apache-2.0
"""The paper's two backbones, and a small one."""
