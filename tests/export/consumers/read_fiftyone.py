"""Load a FiftyOne export with FiftyOne itself, on a MongoDB of its own: read_fiftyone.py FOLDER ARRAYS.npz."""

import json
import os
import sys
from pathlib import Path

os.environ |= {"FIFTYONE_DO_NOT_TRACK": "true", "FIFTYONE_SHOW_PROGRESS_BARS": "false"}

import fiftyone
import numpy as np

folder, arrays = sys.argv[1], sys.argv[2]
dataset = fiftyone.Dataset.from_dir(dataset_dir=folder, dataset_type=fiftyone.types.FiftyOneDataset, name="read back")
found, samples = {}, []
for sample in dataset:
    found[f"{sample.video}-{sample.frame_index}"] = sample.labels.get_mask()
    fields = {name: sample[name] for name in ("video", "frame_index", "time_s", "confidence", "keyframe_distance")}
    size = [sample.metadata.height, sample.metadata.width]
    samples.append(fields | {"exists": Path(sample.filepath).is_file(), "size": size, "tags": sample.tags})
sample = dataset.first()
sample["seen"] = True  # it can be worked on
sample.save()
np.savez(arrays, **found)
said = {
    "targets": dataset.default_mask_targets,
    "colours": dataset.app_config.color_scheme.default_mask_targets_colors,
    "media_type": dataset.media_type,
    "samples": samples,
    "late": len(dataset.match(fiftyone.ViewField("frame_index") >= 2)),
    "counts": {str(k): v for k, v in dataset.count_values("labels.tags").items()},
    "schema": sorted(dataset.get_field_schema()),
}
dataset.delete()
print(json.dumps(said))
