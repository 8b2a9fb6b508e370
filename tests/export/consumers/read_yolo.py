"""Read a YOLO export with supervision: read_yolo.py FOLDER ARRAYS.npz."""

import json
import sys
from pathlib import Path

import numpy as np
import supervision

folder, arrays = Path(sys.argv[1]), sys.argv[2]
dataset = supervision.DetectionDataset.from_yolo(
    images_directory_path=str(folder / "images"),
    annotations_directory_path=str(folder / "labels"),
    data_yaml_path=str(folder / "data.yaml"),
    force_masks=True,
)
found = {}
for path, image, detections in dataset:
    masks = np.zeros((len(dataset.classes), *image.shape[:2]), bool)
    for mask, label in zip(detections.mask, detections.class_id):
        masks[label] |= mask
    found[Path(path).stem] = masks
np.savez(arrays, **found)
print(json.dumps({"names": dataset.classes}))
