"""What the Cityscapes scripts say of their classes: read_cityscapes.py."""

import json

from cityscapesscripts.helpers.labels import trainId2label

labels = [trainId2label[number] for number in range(19)]
print(json.dumps([[label.name, label.id, list(label.color)] for label in labels]))
