"""Read Label Studio tasks with its SDK: read_label_studio.py FOLDER ARRAYS.npz."""

import json
import sys
from pathlib import Path

import numpy as np
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface

folder, arrays = Path(sys.argv[1]), sys.argv[2]
interface = LabelInterface((folder / "labeling_config.xml").read_text())
interface.validate()
names = list(interface.get_tag("labels").labels)
found, differing = {}, 0
for path in sorted(folder.glob("tasks-*.json")):
    for task in json.loads(path.read_text()):
        assert interface.validate_task({"data": task["data"]}), "the task does not fit the configuration"
        problems = interface.validate_prediction(task["predictions"][0], return_errors=True)
        assert not problems, problems
        labels = None
        for region in task["predictions"][0]["result"]:
            height, width = region["original_height"], region["original_width"]
            rle = region["value"]["rle"]
            layers = brush.decode_rle(rle).reshape(height, width, 4)
            mask = layers[:, :, 3]
            labels = np.full((height, width), -1, np.int16) if labels is None else labels
            labels[mask == 255] = names.index(region["value"]["brushlabels"][0])
            assert (layers == mask[..., None]).all(), "channels differ"
            differing += brush.mask2rle(mask) != rle
        key = Path(task["data"]["image"]).stem
        found[key] = np.zeros((0, 0), np.int16) if labels is None else labels
np.savez(arrays, **found)
print(json.dumps({"names": names, "differing": int(differing)}))
