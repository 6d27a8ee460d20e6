# SPDX-License-Identifier: Apache-2.0
"""What the engine is measured against: plain C++ programs and PyTorch as an expert writes it."""
