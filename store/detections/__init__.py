"""Boxes that come from elsewhere and go elsewhere: COCO, VOC, FiftyOne."""
