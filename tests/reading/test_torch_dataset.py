"""The torch dataset: every frame once over ranks and workers, orders that repeat, pictures beside labels."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import gsvnet
from gsvnet.classes import CAMVID, CITYSCAPES, merge_table
from gsvnet.errors import ConfigError, CorruptLabels
from gsvnet.reading.torch_dataset import LabelDataset, _mix, _shuffle
from gsvnet.store.read import open_labels
from tests.drawn import Drawn, compact_by_hand, write_video

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores

DAY, NIGHT = "day-0123456789ab", "night-ba9876543210"
SIZES = {DAY: 41, NIGHT: 12}
LOST = {5, 6, 7, 8, 20}


def draw(index: int, video: str) -> np.ndarray:
    labels = np.full((12, 20), 0 if video == DAY else 10, np.uint8)
    labels[index % 12] = 3
    labels[0, 0] = 255
    return labels


@pytest.fixture
def out(tmp_path, monkeypatch) -> str:
    """Row groups of four frames; one holds lost frames only, and one of the last of a shard is short."""
    monkeypatch.setattr("gsvnet.store.write.MAX_ROW_GROUP_ROWS", 4)
    out = str(tmp_path / "out")
    for video, num_frames in SIZES.items():
        frames = [
            Drawn(
                labels=None if i in LOST and video == DAY else draw(i, video), time_s=i / 10, confidence=0.5 + i / 100
            )
            for i in range(num_frames)
        ]
        write_video(out, video, frames, spool=tmp_path / "spool", shard_frames=12)
    return out


def expected_frames() -> Counter:
    return Counter((v, i) for v, n in SIZES.items() for i in range(n) if not (v == DAY and i in LOST))


def load(dataset: LabelDataset, num_workers: int = 0, **options) -> list[tuple[str, int]]:
    loader = DataLoader(dataset, batch_size=None, num_workers=num_workers, **options)
    return [(sample["video"], sample["frame_index"]) for sample in loader]


def test_a_sample_holds_labels_and_what_the_row_says(out):
    sample = next(iter(LabelDataset(out, every=9)))
    assert sample.keys() == {"labels", "video", "frame_index", "time_s", "keyframe_distance", "confidence"}
    sample = list(LabelDataset(out, every=9))[1]
    assert (sample["video"], sample["frame_index"], sample["keyframe_distance"]) == (DAY, 9, 4)
    assert sample["time_s"] == pytest.approx(0.9)
    assert sample["confidence"] == pytest.approx(0.59)
    assert sample["labels"].dtype == torch.uint8
    np.testing.assert_array_equal(sample["labels"].numpy(), draw(9, DAY), strict=True)


def test_in_order_without_a_seed(out):
    assert load(LabelDataset(out)) == sorted(expected_frames())


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
def test_every_frame_comes_once_over_all_ranks_and_workers(out, world_size, num_workers, seed):
    seen = Counter()
    for rank in range(world_size):
        seen.update(load(LabelDataset(out, rank=rank, world_size=world_size, seed=seed), num_workers))
    assert seen == expected_frames()


def test_compacted_outputs_are_shared_out_alike(out, tmp_path):
    compact_by_hand(out, str(tmp_path / "compacted"), group_rows=9)  # a row group of both videos among them
    datasets = [LabelDataset(str(tmp_path / "compacted"), rank=rank, world_size=2, seed=1) for rank in range(2)]
    assert sum((Counter(load(dataset)) for dataset in datasets), Counter()) == expected_frames()


def test_choices(out):
    assert load(LabelDataset(out, videos=["night"], every=5)) == [(NIGHT, 0), (NIGHT, 5), (NIGHT, 10)]
    some = LabelDataset(out, where="frame_index between 4 and 10 and pixels.sky > 0")
    assert sorted(load(some, num_workers=2)) == [(DAY, 4), (DAY, 9), (DAY, 10)]
    assert load(LabelDataset(out, where="time_s > 0.55", every=3, videos=[NIGHT])) == [(NIGHT, 6), (NIGHT, 9)]


def test_masks_are_not_read_where_no_frame_is_chosen(out):
    path = Path(out) / "labels" / DAY / "000000.parquet"
    data = path.read_bytes()
    mask = open_labels(out).row(DAY, 1).mask
    path.write_bytes(data.replace(mask, bytes(len(mask))))
    assert len(load(LabelDataset(out, where="frame_index > 3"))) > 0
    with pytest.raises(CorruptLabels, match=r"000000\.parquet"):
        load(LabelDataset(out, every=3))


def test_the_same_seed_and_epoch_give_the_same_order(out):
    dataset, again = LabelDataset(out, seed=7), LabelDataset(out, seed=7)
    first = load(dataset, num_workers=2)
    assert first == load(again, num_workers=2)
    assert first != sorted(first)
    assert first != load(LabelDataset(out, seed=8), num_workers=2)
    dataset.set_epoch(1)
    second = load(dataset, num_workers=2)
    assert second != first
    assert Counter(second) == Counter(first)


def test_workers_that_stay_see_the_new_epoch(out):
    dataset = LabelDataset(out, seed=7)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        epochs.append([(s["video"], s["frame_index"]) for s in loader])
    assert epochs[0] == epochs[2] != epochs[1]


def test_several_row_groups_are_mixed(out):
    frames = load(LabelDataset(out, seed=0))[:12]
    assert len({(video, index // 4) for video, index in frames}) > 4  # one after the other would be three


def test_frames_of_a_row_group_are_shuffled(out):
    frames = load(LabelDataset(out, seed=0, open_groups=1, videos=[NIGHT]))
    assert any(abs(a[1] - b[1]) != 1 for a, b in pairwise(frames[:4]))
    assert {index // 4 for _, index in frames[:4]} in ({0}, {1}, {2})


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("seed", [None, 5])
def test_even_ranks_give_as_many_batches_as_the_poorest(out, num_workers, seed):
    for epoch in range(3):
        batches, samples = set(), Counter()
        for rank in range(3):
            dataset = LabelDataset(out, rank=rank, world_size=3, seed=seed, even=True)
            dataset.set_epoch(epoch)
            loaded = list(DataLoader(dataset, batch_size=4, num_workers=num_workers))
            batches.add(tuple(len(batch["frame_index"]) for batch in loaded))
            samples.update((v, int(i)) for batch in loaded for v, i in zip(batch["video"], batch["frame_index"]))
        assert len(batches) == 1
        assert set(samples.values()) == {1}
        assert len(samples) > sum(SIZES.values()) // 2


def test_even_is_as_much_as_the_poorest_rank_has(out):
    all_frames = [len(load(LabelDataset(out, rank=rank, world_size=3))) for rank in range(3)]
    even = [len(load(LabelDataset(out, rank=rank, world_size=3, even=True))) for rank in range(3)]
    assert even == [min(all_frames)] * 3


def test_too_few_row_groups_for_even_ranks_are_a_config_error(out):
    with pytest.raises(ConfigError, match="fewer ranks"):
        LabelDataset(out, videos=[NIGHT], rank=0, world_size=4, even=True)


def test_labels_are_merged_into_other_classes(tmp_path):
    out = str(tmp_path / "out")
    labels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    labels[-1, -1] = 255
    frames = [Drawn(labels=labels, time_s=0.0)]
    write_video(out, DAY, frames, spool=tmp_path / "spool", classes=CITYSCAPES)
    table = merge_table(CITYSCAPES, CAMVID)
    (sample,) = LabelDataset(out, relabel=table)
    np.testing.assert_array_equal(sample["labels"].numpy(), table[labels])
    sample["labels"][0, 0] = 1  # a tensor of one's own


def test_missing_numbers_collate(tmp_path):
    out = str(tmp_path / "out")
    frame = Drawn(labels=draw(0, DAY), time_s=0.0, confidence=None, interval=None)
    write_video(out, DAY, [frame], spool=tmp_path / "spool")
    (batch,) = DataLoader(LabelDataset(out), batch_size=2)
    assert batch["keyframe_distance"].tolist() == [-1]
    assert batch["confidence"].isnan().tolist() == [True]


def test_a_dataset_runs_in_spawned_workers(out):
    dataset = LabelDataset(out, seed=2)
    expected = load(dataset)
    assert load(pickle.loads(pickle.dumps(dataset))) == expected
    assert load(dataset, num_workers=1, multiprocessing_context="spawn") == expected


@pytest.mark.s3
def test_forked_workers_read_a_bucket(moto_s3, tmp_path):
    out = f"s3://{moto_s3.make_bucket()}/out"
    frames = [Drawn(labels=draw(i, DAY), time_s=i / 10) for i in range(12)]
    options = moto_s3.options
    write_video(out, DAY, frames, spool=tmp_path / "spool", shard_frames=3, storage_options=options)
    assert Counter(load(LabelDataset(out, storage_options=options), num_workers=2)) == Counter(
        (DAY, i) for i in range(12)
    )


# --- pictures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def numbered(label_config, media, tmp_path, monkeypatch):
    """The output of a clip of 30 frames whose pictures hold their own number; small masks."""
    monkeypatch.setattr("gsvnet.store.write.MAX_ROW_GROUP_ROWS", 4)
    clip = media.write_clip(tmp_path / "clip.mp4", num_frames=30)
    return gsvnet.label(label_config(videos=(str(clip),), mask_size="18x24")).out


@pytest.mark.parametrize("seed", [None, 3])
def test_images_are_those_of_their_labels(numbered, media, seed):
    labels = open_labels(numbered)
    samples = list(LabelDataset(labels, images=True, seed=seed, buffer_frames=5))
    assert sorted(sample["frame_index"] for sample in samples) == list(range(30))
    assert (seed is None) == ([sample["frame_index"] for sample in samples] == list(range(30)))
    for sample in samples:
        assert sample["image"].dtype == torch.uint8
        assert sample["image"].shape == (3, *sample["labels"].shape)
        assert media.read_number(sample["image"].permute(1, 2, 0).numpy()) == sample["frame_index"]
        small = labels.labels_at("clip", [sample["frame_index"]])[0]
        assert set(np.unique(sample["labels"])) <= set(np.unique(small))


def test_images_of_chosen_frames_come_from_where_the_video_is_now(numbered, media, tmp_path):
    (tmp_path / "now").mkdir()
    (tmp_path / "clip.mp4").rename(tmp_path / "now" / "clip.mp4")
    for source in (str(tmp_path / "now" / "clip.mp4"), str(tmp_path / "now")):
        dataset = LabelDataset(numbered, images=True, where="frame_index % 7 = 2", source=source)
        assert [media.read_number(s["image"].permute(1, 2, 0).numpy()) for s in dataset] == [2, 9, 16, 23]
    with pytest.raises(gsvnet.VideoError, match=r"clip\.mp4"):
        next(iter(LabelDataset(numbered, images=True)))


def test_workers_share_images_out(numbered):
    dataset = LabelDataset(numbered, images=True, seed=0)
    assert Counter(load(dataset, num_workers=2)) == Counter({(dataset.labels.videos[0], i): 1 for i in range(30)})


# --- parts ----------------------------------------------------------------------------------------------------------


def test_a_buffer_keeps_no_more_than_its_size():
    taken = []

    def items():
        for i in range(20):
            taken.append(i)
            yield i

    shuffled = _shuffle(items(), 4, np.random.default_rng(0))
    for given, item in enumerate(shuffled):
        assert len(taken) - given <= 4
        assert item in taken
    assert len(taken) == 20


def test_mixing_opens_no_more_streams_than_allowed():
    opened = []

    def streams():
        for i in range(6):
            opened.append(i)
            yield iter([i] * 3)

    mixed = _mix(streams(), 2, np.random.default_rng(0))
    seen = []
    for item in mixed:
        seen.append(item)
        finished = sum(count == 3 for count in Counter(seen).values())
        assert len(opened) <= finished + 2
    assert Counter(seen) == Counter({i: 3 for i in range(6)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every 0"),
        ({"where": "pixels.train > 0"}, "train"),
        ({"where": "frame_index < 0"}, "no frame has"),
        ({"videos": ["dusk"]}, "dusk"),
        ({"rank": 2, "world_size": 2}, "rank 2 of world_size 2"),
        ({"rank": 1}, "give both"),
        ({"seed": -1}, "seed -1"),
        ({"open_groups": 0}, "open_groups 0"),
        ({"buffer_frames": 0}, "buffer_frames 0"),
        ({"relabel": np.zeros(19, np.uint8)}, r"\(256,\) uint8"),
        ({"images": True, "source": "clip.mp4"}, "2 videos"),
    ],
)
def test_bad_arguments_are_config_errors(out, options, message):
    with pytest.raises(ConfigError, match=message):
        LabelDataset(out, **options)


def test_an_output_without_labels_is_a_config_error(out):
    for path in Path(out).rglob("*.parquet"):
        path.unlink()
    with pytest.raises(ConfigError, match="no labels yet"):
        LabelDataset(out)


def test_ranks_come_from_torch_distributed(out, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    try:
        dataset = LabelDataset(out)
    finally:
        torch.distributed.destroy_process_group()
    assert (dataset.rank, dataset.world_size) == (0, 1)
