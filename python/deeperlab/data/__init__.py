# SPDX-License-Identifier: Apache-2.0
"""Data: annotation formats, label sets, and drawn scenes with ground truth.

Annotations, each as `Samples` of one form (`sample`): `segments` (COCO panoptic), `cityscapes`, `vistas`, `voc`,
`two_channel`, `label_map`. `coco` reads and writes COCO panoptic files as they are. `labels` knows the classes.
"""
