# SPDX-License-Identifier: Apache-2.0
"""Files of annotations and of pictures, one module for each format."""
