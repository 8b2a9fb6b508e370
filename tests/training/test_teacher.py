import torch
import torch.nn.functional as F

from gsvnet.classes import CAMVID
from gsvnet.models.checkpoints import save_checkpoint
from gsvnet.models.segmenter import Normalise, SizeRule
from gsvnet.models.spec import ModelSpec, NormaliseSpec, build_model
from gsvnet.training.teacher import Teacher, load_teacher


def test_a_teacher_sees_the_view_in_its_own_normalisation_and_scale(tiny_network):
    own = Normalise(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), channels="bgr")
    images = torch.rand(2, 3, 16, 24) * 255
    teacher = Teacher(tiny_network(3), own, scale=1.5, align_corners=False)
    larger = F.interpolate(images, (24, 36), mode="bilinear")
    expected = F.interpolate(tiny_network(3).eval()(own(larger)), (16, 24), mode="bilinear")
    torch.testing.assert_close(teacher(images), expected)


def test_a_teacher_stays_as_it_is(tiny_network, normalise):
    teacher = Teacher(tiny_network(3), normalise)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    assert not teacher(torch.rand(2, 3, 16, 24) * 255).requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())


def test_a_teacher_of_more_rows_sees_its_students_views_enlarged(tmp_path):
    spec = ModelSpec(
        family="swiftnet",
        classes=CAMVID,
        normalise=NormaliseSpec(mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0)),
        size_rule=SizeRule(rows=512, keyframe_scale=0.75),
        align_corners=False,
    )
    save_checkpoint(tmp_path / "t.safetensors", build_model(spec))
    teacher = load_teacher(tmp_path / "t.safetensors", CAMVID, (360, 480))
    assert teacher.scale == 384 / 360
    assert not teacher.align_corners
