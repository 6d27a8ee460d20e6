# SPDX-License-Identifier: Apache-2.0
"""What `deeperlab.data.scenes` paints with: brush, shapes and kinds of things, kinds of stuff, the stage."""
