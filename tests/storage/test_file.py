"""Encoded weights in a file: what comes back, what it takes, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import dovetail as dv
from dovetail import zoo
from dovetail.formats.codes import Codes
from dovetail.storage import load_codes, load_encoded, save_encoded
from format_oracles import same_bits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.safetensors"


@pytest.fixture
def cnn() -> nn.Module:
    model = zoo.build("digits-cnn")
    model.load_state_dict(zoo.checkpoint("digits-cnn"))
    return model


def test_one_format_for_everything_that_floats(path: Path) -> None:
    weights = {
        "a": torch.randn(16, 40),
        "half": torch.randn(7).half(),
        "steps": torch.tensor(3),
        "mask": torch.tensor([True, False]),
        "empty": torch.empty(0, 3),
    }
    report = save_encoded(weights, path, "mxfp4")
    loaded = load_encoded(path)
    assert list(loaded) == list(weights)
    for name, x in weights.items():
        expected = dv.cast(x, "mxfp4") if x.is_floating_point() else x
        assert loaded[name].dtype == x.dtype
        assert loaded[name].shape == x.shape
        assert torch.equal(loaded[name], expected)
    sizes = {t.name: t.nbytes for t in report}
    assert sizes == {"a": 320 + 32, "half": 5, "steps": 8, "mask": 2, "empty": 0}
    assert report.nbytes == 367
    assert report.file_bytes == path.stat().st_size
    assert [t.format for t in report] == ["mxfp4", "mxfp4", None, None, "mxfp4"]


@pytest.mark.parametrize(
    "spelling",
    [
        *("int8", "uint4", "int4(group=32)", "uint4(group=7)", "fp16", "posit(8)"),
        *("nvfp4", "nf4(block=64)", "bfp(m=5, block=9)"),
    ],
)
def test_a_model_round_trips_in_every_kind_of_format(
    spelling: str, path: Path, cnn: nn.Module
) -> None:
    save_encoded(cnn, path, spelling)
    loaded = load_encoded(path)
    for name, x in cnn.state_dict().items():
        if not x.is_floating_point():
            assert torch.equal(loaded[name], x)
            continue
        fmt = dv.format(spelling)
        per_row = isinstance(fmt, dv.formats.IntFormat) and fmt.group is None and x.dim() > 1
        expected = dv.cast(x, spelling, channel=0) if per_row else dv.cast(x, spelling)
        assert same_bits(loaded[name], expected)
    zoo.build("digits-cnn").load_state_dict(loaded)


def test_groups_run_where_the_products_are_summed(path: Path, cnn: nn.Module) -> None:
    example = zoo.data.load("digits").example
    report = save_encoded(cnn, path, dv.Recipe(dv.rule("*", weight="int4(group=8)")), example[:2])
    loaded, weight = load_encoded(path), cnn.state_dict()["conv2.weight"]
    assert same_bits(loaded["conv2.weight"], dv.cast(weight, "int4(group=8)", 1))
    sizes = {t.name: t.nbytes for t in report}
    groups = weight.numel() // weight.shape[1] * -(-weight.shape[1] // 8)
    assert sizes["conv2.weight"] == weight.numel() // 2 + 4 * groups


def test_globs_the_last_match_wins(path: Path, cnn: nn.Module) -> None:
    report = save_encoded(cnn, path, {"*.weight": "int4", "conv1*": "fp8_e4m3fn"})
    formats = {t.name: t.format for t in report}
    assert formats["conv1.weight"] == formats["conv1.bias"] == "fp8_e4m3fn"
    assert formats["conv2.weight"] == "int4"
    assert formats["conv2.bias"] is None
    with pytest.raises(
        dv.DovetailError, match=r"'fc\*x' matches no tensor; there are conv1.weight"
    ):
        save_encoded(cnn, path, {"fc*x": "int8"})


def test_a_recipe_stores_what_its_casts_compute_with(path: Path, cnn: nn.Module) -> None:
    example = zoo.data.load("digits").example
    recipe = dv.Recipe(
        dv.rule("*", weight="mxfp8_e4m3(block=8)", bias="bf16"),
        dv.rule("conv2", weight="int4"),
        dv.rule("conv3", weight="bfp(m=8, block=16)", weight_storage="mxfp4"),
    )
    images = example[:4]
    with torch.no_grad():
        dv.apply_(cnn, recipe, images)
        before = cnn(images)
        report = save_encoded(cnn, path)  # the recipe that is applied
        dv.remove_(cnn)
    assert {t.format for t in report if t.format} == {
        "mxfp8_e4m3(block=8)",
        "bf16",
        "int4",
        "mxfp4",
    }
    other = path.with_name("other.safetensors")
    assert save_encoded(cnn, other, recipe, images).tensors == report.tensors
    assert other.read_bytes() == path.read_bytes()
    loaded = load_encoded(path)
    weights = cnn.state_dict()
    assert same_bits(loaded["conv2.weight"], dv.cast(weights["conv2.weight"], "int4", channel=0))
    assert same_bits(loaded["conv3.weight"], dv.cast(weights["conv3.weight"], "mxfp4", 1))
    assert same_bits(loaded["conv1.bias"], dv.cast(weights["conv1.bias"], "bf16"))
    # Casts are idempotent: the loaded model emulated is the original emulated.
    fresh = zoo.build("digits-cnn")
    fresh.load_state_dict(loaded)
    fresh.eval()
    cnn.eval()
    with torch.no_grad():
        dv.apply_(fresh, recipe, images)
        dv.apply_(cnn, recipe, images)
        assert torch.equal(fresh(images), cnn(images))
    assert before.shape == (4, 10)


class _Functional(nn.Module):
    """Weights used by functions: one as it is, one transposed, one computed."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Parameter(torch.randn(6, 40))
        self.flipped = nn.Parameter(torch.randn(6, 9))
        self.bias = nn.Parameter(torch.randn(9))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.linear(x, self.plain)
        return torch.addmm(self.bias, x, self.flipped)


def test_weights_of_functions_are_found_through_the_example(path: Path) -> None:
    model = _Functional()
    recipe = dv.Recipe(dv.rule("*", weight="mxfp4(block=4)"), dv.rule("*:linear_1", weight="int5"))
    example = torch.randn(3, 40)
    report = save_encoded(model, path, recipe, example)
    assert [t.format for t in report] == ["mxfp4(block=4)", "int5", None]
    loaded = load_encoded(path)
    assert same_bits(loaded["plain"], dv.cast(model.plain.detach(), "mxfp4(block=4)", -1))
    assert same_bits(loaded["flipped"], dv.cast(model.flipped.detach(), "int5", channel=1))
    recipe = dv.Recipe(dv.rule("*", weight="mxfp4(block=4)"))
    save_encoded(model, path, recipe, (example,))
    flipped = load_encoded(path)["flipped"]
    assert same_bits(flipped, dv.cast(model.flipped.detach(), "mxfp4(block=4)", 0))
    dv.apply_(model, recipe, example)
    assert [t.format for t in save_encoded(model, path, example={"x": example})][1] is not None
    dv.remove_(model)


def test_tied_weights_are_stored_once(path: Path) -> None:
    model = nn.Sequential(nn.Embedding(50, 64), nn.Linear(64, 50, bias=False))
    model[1].weight = model[0].weight
    report = save_encoded(model, path, dv.Recipe(dv.rule("1", weight="mxfp4")))
    assert [(t.nbytes, t.same_as) for t in report] == [(1700, None), (0, "0.weight")]
    assert "same as 0.weight" in report.table()
    loaded = load_encoded(path)
    assert loaded["0.weight"] is loaded["1.weight"]
    assert same_bits(loaded["0.weight"], dv.cast(model[0].weight.detach(), "mxfp4"))
    plain = save_encoded(model, path, {"0*": "mxfp4"})
    assert [t.nbytes for t in plain] == [1700, 12800]


def test_views_into_one_storage_are_written_each(path: Path) -> None:
    whole = torch.randn(4, 6)
    weights = {"a": whole[:2], "b": whole[1:], "c": whole.mT}
    save_encoded(weights, path, {"c": "fp16"})
    loaded = load_encoded(path)
    assert torch.equal(loaded["a"], whole[:2])
    assert torch.equal(loaded["b"], whole[1:])
    assert torch.equal(loaded["c"], whole.mT.half().float())


def test_one_weight_in_two_formats_is_refused(path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.linear(x, self.w)
            return nn.functional.linear(x, self.w)

    recipe = dv.Recipe(dv.rule("*", weight="mxfp4"), dv.rule("*:linear_1", weight="int4"))
    with pytest.raises(dv.DovetailError, match="share one weight, but the rules store it as int4"):
        save_encoded(Twice(), path, recipe, torch.randn(1, 4))
    assert not path.exists()


def test_a_parametrized_weight_is_refused(path: Path) -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    with pytest.raises(dv.DovetailError, match="0: its weight is not in the state dict"):
        save_encoded(model, path, dv.Recipe(dv.rule("*", weight="int8")))


def test_the_file_is_plain_safetensors_without_pickle(path: Path) -> None:
    save_encoded({"w": torch.ones(4, 32)}, path, "mxfp4")
    with safe_open(str(path), framework="pt") as opened:
        assert sorted(opened.keys()) == ["w::codes", "w::scales"]
        index = json.loads(opened.metadata()["dovetail.encoded"])
    assert index["encoded"]["w"] == {
        "format": "mxfp4",
        "shape": [4, 32],
        "dtype": "float32",
        "axis": 1,
    }
    codes = load_codes(path)["w"]
    assert isinstance(codes, Codes)
    assert codes.nbytes == 68


def test_nothing_is_left_behind_when_a_tensor_is_refused(path: Path) -> None:
    weights = {"ok": torch.ones(3), "bad": torch.tensor([torch.nan])}
    with pytest.raises(dv.DovetailError, match="tensor 'bad': 'fp4_e2m1fn' has no code for NaN"):
        save_encoded(weights, path, "fp4_e2m1fn")
    assert not list(path.parent.iterdir())
    save_encoded(weights, path, "fp4_e2m1fn", nan="zero")
    assert load_encoded(path)["bad"].tolist() == [0.0]


def test_names_that_clash(path: Path) -> None:
    with pytest.raises(dv.DovetailError, match="the name is taken by a part of 'w'"):
        save_encoded({"w": torch.ones(2), "w::codes": torch.ones(2).long()}, path, "fp16")


def test_a_recipe_needs_a_model(path: Path) -> None:
    recipe = dv.Recipe(dv.rule("*", weight="int8"))
    with pytest.raises(dv.DovetailError, match="give save_encoded the model"):
        save_encoded({"w": torch.ones(2)}, path, recipe)
    with pytest.raises(dv.DovetailError, match="is not emulated"):
        save_encoded(nn.Linear(2, 2), path)


def test_what_is_no_such_file(path: Path) -> None:
    with pytest.raises(dv.DovetailError, match="is no file"):
        load_encoded(path)
    path.write_bytes(b"not a tensor in sight")
    with pytest.raises(dv.DovetailError, match="no complete safetensors file"):
        load_encoded(path)
    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(dv.DovetailError, match=r"not written by dv\.save_encoded"):
        load_encoded(path)


def test_a_truncated_file(path: Path) -> None:
    save_encoded({"w": torch.ones(64, 64)}, path, "mxfp4")
    whole = path.read_bytes()
    for cut in (4, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(dv.DovetailError, match="damaged, truncated"):
            load_encoded(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "mxfp5"}, "tensor 'w': unknown format 'mxfp5'; did you mean 'mxfp4'"),
        ({"shape": [4, 65]}, "tensor 'w': encoded in 'mxfp4': the codes of shape"),
        ({"dtype": "float8"}, "tensor 'w': unknown dtype 'float8'"),
    ],
)
def test_metadata_that_does_not_fit(path: Path, change: dict[str, object], message: str) -> None:
    save_encoded({"w": torch.ones(4, 64)}, path, "mxfp4")
    _rewrite(path, lambda index: index["encoded"]["w"].update(change))
    with pytest.raises(dv.DovetailError, match=message):
        load_encoded(path)


def test_another_version_and_a_missing_tensor(path: Path) -> None:
    save_encoded({"w": torch.ones(4, 64), "n": torch.tensor(1)}, path, "mxfp4")
    _rewrite(path, lambda index: index["names"].append("gone"))
    with pytest.raises(dv.DovetailError, match="tensor 'gone' is missing"):
        load_encoded(path)
    _rewrite(path, lambda index: index.update(version=2))
    with pytest.raises(dv.DovetailError, match="is of version 2, and this dovetail reads 1"):
        load_encoded(path)


def _rewrite(path: Path, change) -> None:  # type: ignore[no-untyped-def]
    with safe_open(str(path), framework="pt") as opened:
        index = json.loads(opened.metadata()["dovetail.encoded"])
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    change(index)
    save_file(tensors, path, {"dovetail.encoded": json.dumps(index)})
