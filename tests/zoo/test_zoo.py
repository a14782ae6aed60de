"""The models and data that ship: the split, the checkpoint, and how it was made."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

from dovetail import zoo
from dovetail.errors import DovetailError


def images(loader: torch.utils.data.DataLoader[tuple[torch.Tensor, ...]]) -> torch.Tensor:
    return loader.dataset.tensors[0].flatten(1)  # type: ignore[attr-defined, no-any-return]


def test_the_split_is_stratified_and_covers_every_image_once() -> None:
    data = zoo.data.load("digits")
    train, test = data.train.dataset.tensors, data.test.dataset.tensors  # type: ignore[attr-defined]
    assert len(train[0]) + len(test[0]) == 1797
    for label in range(10):
        held_out, rest = int((test[1] == label).sum()), int((train[1] == label).sum())
        assert held_out / (held_out + rest) == pytest.approx(0.4, abs=0.005)


def test_no_test_image_is_trained_or_calibrated_on() -> None:
    data = zoo.data.load("digits", seed=3)
    seen = {tuple(row) for row in images(data.train).tolist()}
    assert seen.isdisjoint(tuple(row) for row in images(data.test).tolist())
    assert seen.issuperset(tuple(row) for row in images(data.calibration).tolist())


def test_a_seed_picks_the_calibration_images_and_never_the_test_images() -> None:
    one, same, other = (zoo.data.load("digits", seed=s) for s in (0, 0, 1))
    assert torch.equal(images(one.test), images(other.test))
    assert torch.equal(images(one.calibration), images(same.calibration))
    assert not torch.equal(images(one.calibration), images(other.calibration))
    assert one.sha256 == other.sha256


def test_pixels_are_in_0_to_1_and_batches_as_asked() -> None:
    data = zoo.data.load("digits", batch_size=50)
    x, y = next(iter(data.test))
    assert (x.shape, y.shape) == ((50, 1, 8, 8), (50,))
    assert (float(images(data.train).min()), float(images(data.train).max())) == (0.0, 1.0)
    assert data.example.shape == (50, 1, 8, 8)
    assert data.classes == 10


def test_training_order_follows_the_global_seed() -> None:
    orders = []
    for _ in range(2):
        torch.manual_seed(11)
        orders.append(torch.cat([y for _, y in zoo.data.load("digits").train]))
    assert torch.equal(*orders)


@pytest.mark.parametrize("name", ["digits-cnn", "row-transformer"])
def test_checkpoint_is_small_fits_its_model_and_is_as_good_as_it_says(name: str) -> None:
    model = zoo.build(name)
    model.load_state_dict(zoo.checkpoint(name))
    from dovetail.analysis import accuracy

    measured = accuracy(model, zoo.data.load("digits").test)
    assert measured.low > 0.95
    path = zoo._ZOO[name].checkpoint
    assert path.stat().st_size < 100_000
    with safe_open(path, framework="pt") as file:
        about = file.metadata()["about"]
    assert "examples/train_digits.py --seed 0" in about
    assert f"{measured.value:.1%}" in about


def test_training_repeats_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    one, two = (zoo.digits.train(seed=5, epochs=1, progress=False) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("call", [zoo.build, zoo.checkpoint, zoo.train])
def test_unknown_models_are_refused_with_the_nearest(call: object) -> None:
    with pytest.raises(DovetailError, match="'digit-cnn'; did you mean 'digits-cnn'"):
        call("digit-cnn")  # type: ignore[operator]


def test_unknown_data_and_batch_sizes_are_refused() -> None:
    with pytest.raises(DovetailError, match="did you mean 'digits'"):
        zoo.data.load("digist")
    with pytest.raises(DovetailError, match="batch_size 0"):
        zoo.data.load("digits", batch_size=0)


def test_without_scikit_learn_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DovetailError, match=r"dovetail\[demo\]"):
        zoo.data.load("digits")
