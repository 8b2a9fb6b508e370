"""Drawn street scenes: video of any length and size with exactly known labels and flow, in CamVid's classes.

Read in this order: scene.py (what a frame is), street.py and traffic.py (what there is), figures.py (cars and people),
camera.py, canvas.py and ground.py (how it is drawn), video.py. Textures: catalogue.py, textures.py, sprites.py.
"""

from gsvnet.synthetic.scene import SceneConfig, SceneFrame, StreetScene
from gsvnet.synthetic.video import read_labels, read_number, stamp_number, write_video

__all__ = ["SceneConfig", "SceneFrame", "StreetScene", "read_labels", "read_number", "stamp_number", "write_video"]
