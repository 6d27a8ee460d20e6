# SPDX-License-Identifier: Apache-2.0
"""What is published of each network: when, its idea in a sentence, and how good its authors found it."""

from __future__ import annotations

from typing import NamedTuple


class Fact(NamedTuple):
    """One publication."""

    year: int
    idea: str
    source: str
    """Authors, and where it can be read."""
    published: str
    """The authors' figure, or its maker's, with the data it was measured on; "–": none that could be checked."""


_FCN = "Long, Shelhamer, Darrell, arXiv:1411.4038"
_DILATED = "Yu, Koltun, arXiv:1511.07122"
_V1 = "Chen et al., arXiv:1412.7062"
_V2 = "Chen et al., arXiv:1606.00915"
_V3 = "Chen et al., arXiv:1706.05587"
_V3PLUS = "Chen et al., arXiv:1802.02611"
_PSP = "Zhao et al., arXiv:1612.01105"
_DEEPERLAB = "Yang et al., arXiv:1902.05093"
_SMALL = "Not of the paper: the same heads on a small backbone, for two processor cores."

FACTS = {
    "fcn32s": Fact(
        2015,
        "A classifier's layers are convolutions: it scores every place.",
        _FCN,
        "59.4 mIoU, a part of VOC 2011 val",
    ),
    "fcn16s": Fact(
        2015, "Scores of a finer pool are added before the last upsampling.", _FCN, "62.4 mIoU, a part of VOC 2011 val"
    ),
    "fcn8s": Fact(2015, "Scores of two finer pools are added.", _FCN, "62.2 mIoU, VOC 2012 test"),
    "fcn_resnet50": Fact(
        2015,
        "What torchvision calls FCN: an atrous ResNet and one head.",
        _FCN,
        "60.5 mIoU, COCO val with VOC's classes (torchvision)",
    ),
    "fcn_resnet101": Fact(
        2015, "The same, on a deeper ResNet.", _FCN, "63.7 mIoU, COCO val with VOC's classes (torchvision)"
    ),
    "deconvnet": Fact(
        2015,
        "The network mirrored: unpooling puts maxima back where they were.",
        "Noh, Hong, Han, arXiv:1505.04366",
        "72.5 mIoU, VOC 2012 test, in an ensemble with FCN, with CRF",
    ),
    "dilated_frontend": Fact(
        2016, "Pools that cost resolution give way to dilated convolutions.", _DILATED, "69.8 mIoU, VOC 2012 val"
    ),
    "dilated_context_basic": Fact(
        2016, "A module of dilated convolutions over the scores themselves.", _DILATED, "71.3 mIoU, VOC 2012 val"
    ),
    "dilated_context_large": Fact(
        2016, "The same with more channels in its later layers.", _DILATED, "72.1 mIoU, VOC 2012 val"
    ),
    "deeplab_v1_largefov": Fact(
        2015,
        "Atrous convolutions in the classifier, then a fully connected CRF.",
        _V1,
        "62.25 mIoU, with CRF 67.64, VOC 2012 val",
    ),
    "deeplab_v1_7x7": Fact(
        2015, "All taps of the classifier's first layer, at rate 4.", _V1, "64.38 mIoU, with CRF 67.64, VOC 2012 val"
    ),
    "deeplab_v1_4x4": Fact(
        2015, "Fewer taps: faster, and a smaller field of view.", _V1, "59.80 mIoU, with CRF 63.74, VOC 2012 val"
    ),
    "deeplab_v1_4x4_r8": Fact(
        2015, "Fewer taps at twice the rate: the field of view is back.", _V1, "67.14 mIoU, VOC 2012 val, with CRF"
    ),
    "deeplab_v2_vgg16": Fact(
        2017, "Classifiers at four rates, their scores added (ASPP).", _V2, "68.96 mIoU, with CRF 71.57, VOC 2012 val"
    ),
    "deeplab_v2_resnet101": Fact(2017, "ASPP on a residual network.", _V2, "79.7 mIoU, VOC 2012 test, with CRF"),
    "deeplab_v3_resnet50": Fact(
        2017, "The same as on ResNet-101, smaller.", _V3, "66.4 mIoU, COCO val with VOC's classes (torchvision)"
    ),
    "deeplab_v3_resnet101": Fact(
        2017,
        "Atrous convolutions at several rates beside the image's mean.",
        _V3,
        "67.4 mIoU, COCO val with VOC's classes (torchvision)",
    ),
    "deeplab_v3plus_xception65": Fact(
        2018, "A small decoder brings the edges back.", _V3PLUS, "89.0 mIoU, VOC 2012 test, pretrained on JFT too"
    ),
    "deeplab_v3plus_xception71": Fact(2018, "The same on a deeper Xception.", _V3PLUS, "82.1 mIoU, Cityscapes test"),
    "deeplab_v3plus_resnet101": Fact(2018, "The same on a ResNet.", _V3PLUS, "78.85 mIoU, VOC 2012 val"),
    "pspnet_resnet50": Fact(
        2017, "Means over grids of the image tell what scene it is.", _PSP, "41.68 mIoU, ADE20K val, one scale"
    ),
    "pspnet_resnet101": Fact(2017, "The same on a deeper ResNet.", _PSP, "43.3 mIoU, ADE20K val"),
    "unet": Fact(
        2015,
        "A contracting path, an expanding one, and features handed across.",
        "Ronneberger, Fischer, Brox, arXiv:1505.04597",
        "92.03 IoU, PhC-U373; 77.56, DIC-HeLa",
    ),
    "fusionnet": Fact(
        2016, "A U of residual units, whose features are added.", "Quan, Hildebrand, Jeong, arXiv:1612.05360", "–"
    ),
    "xception71": Fact(
        2019,
        "Keypoints and offsets beside the semantic head: instances in one shot.",
        _DEEPERLAB,
        "31.95 PQ, Mapillary Vistas val",
    ),
    "wider_mobilenet_v2": Fact(2019, "The same on MobileNetV2 with 5 × 5 kernels.", _DEEPERLAB, "–"),
    "light_wider_mobilenet_v2": Fact(2019, "The same with a lighter decoder and heads.", _DEEPERLAB, "–"),
    "mobilenet_v2": Fact(2019, "The same with 3 × 3 kernels.", _DEEPERLAB, "–"),
    "mobilenet_v2_7x7": Fact(2019, "The same with 7 × 7 kernels.", _DEEPERLAB, "–"),
    "efficientnet_lite0": Fact(2019, _SMALL, "Tan, Le, arXiv:1905.11946", "–"),
}
"""By the names of `list_models`."""
