"""Read a CVAT export with datumaro, as CVAT does: read_cvat.py FOLDER ARRAYS.npz."""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from datumaro.components.annotation import AnnotationType
from datumaro.components.dataset import Dataset

folder, arrays = Path(sys.argv[1]), sys.argv[2]
with tempfile.TemporaryDirectory() as unpacked:  # through a zip, as an upload goes
    packed = Path(unpacked) / "upload.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    zipfile.ZipFile(packed).extractall(Path(unpacked) / "data")
    dataset = Dataset.import_from(str(Path(unpacked) / "data"), "voc_segmentation")
    names = [label.name for label in dataset.categories()[AnnotationType.label].items]
    found, used, has_media = {}, set(), []
    for item in dataset:
        masks = [each for each in item.annotations if each.type == AnnotationType.mask]
        labels = None
        for mask in masks:
            image = np.asarray(mask.image)
            labels = np.full(image.shape, -1, np.int16) if labels is None else labels
            assert (labels[image != 0] == -1).all(), "two masks overlap"
            labels[image != 0] = mask.label
            used.add(names[mask.label])
        found[item.id] = np.zeros((0, 0), np.int16) if labels is None else labels
        has_media.append(item.media is not None)
    np.savez(arrays, **found)
print(json.dumps({"names": names, "used": sorted(used), "has_media": has_media}))
