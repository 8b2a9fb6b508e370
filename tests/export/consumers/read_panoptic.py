"""Read a COCO panoptic export with datumaro: read_panoptic.py FOLDER ARRAYS.npz."""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from datumaro.components.annotation import AnnotationType
from datumaro.components.dataset import Dataset

folder, arrays = Path(sys.argv[1]).resolve(), sys.argv[2]
with tempfile.TemporaryDirectory() as laid_out:  # datumaro wants COCO's own folders
    annotations = Path(laid_out) / "annotations"
    annotations.mkdir()
    (Path(laid_out) / "images").mkdir()
    (annotations / "panoptic_default.json").symlink_to(folder / "panoptic.json")
    (annotations / "panoptic_default").symlink_to(folder / "panoptic")
    dataset = Dataset.import_from(laid_out, "coco_panoptic")
    names = [label.name for label in dataset.categories()[AnnotationType.label].items]
    found = {}
    for item in dataset:
        labels = None
        for mask in item.annotations:
            image = np.asarray(mask.image)
            labels = np.full(image.shape, -1, np.int16) if labels is None else labels
            labels[image != 0] = mask.label
        found[item.id] = np.zeros((0, 0), np.int16) if labels is None else labels
    np.savez(arrays, **found)
print(json.dumps({"names": names}))
